// What pages can do beyond links and forms. Everything here is an addition: without it, search and play work all the same.
"use strict";

const HOVER_MS = 300;
const PREVIEW_MS = 2000;
const TYPING_MS = 120;
const LOOK_MS = 3000;

const player = document.getElementById("player");
const cards = () => [...document.querySelectorAll(".card .open")];

// Keys, but not while somebody types, or means a command of the browser. A player that was clicked winds and pauses by keys.
const PLAYERS_OWN = ["ArrowLeft", "ArrowRight", " "];
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=search], select") || (event.target === player && PLAYERS_OWN.includes(event.key));
  if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
  const act = {
    "/": () => document.getElementById("q").select(),
    Escape: () => event.target.blur(),
    ArrowLeft: () => hit(-1),
    ArrowRight: () => hit(1),
    ",": () => step(-1),
    ".": () => step(1),
    " ": player && !event.target.matches("a, button, summary, input") ? () => (player.paused ? player.play() : player.pause()) : null,
  }[event.key];
  if (act && act() !== false) event.preventDefault();
});

// In a lane of labels over time, the arrows go through the stretches of its label; the tab key goes to the next lane.
function stretch(by) {
  const links = [...document.activeElement.closest("svg").querySelectorAll("a")];
  const next = links[links.indexOf(document.activeElement) + by];
  if (next) {
    links.forEach((link) => link.setAttribute("tabindex", link === next ? "0" : "-1"));
    next.focus();
  }
  return true;
}

function hit(by) {
  if (document.activeElement.closest(".lane a[aria-label]")) return stretch(by);
  if (player) {
    const link = document.getElementById(by < 0 ? "before" : "after");
    if (!link) return false;
    link.click();
    return true;
  }
  const all = cards();
  if (!all.length) return false;
  const at = all.findIndex((card) => card.closest(".card").contains(document.activeElement));
  all[Math.min(Math.max(at + by, 0), all.length - 1)].focus();
  return true;
}

function step(by) {
  if (!player) return false;
  player.pause();
  const frame = 1 / (Number(player.dataset.fps) || 25);
  // To the middle of the frame: its edges are not exact numbers.
  player.currentTime = Math.max(0, (Math.floor(player.currentTime / frame + 0.001) + by + 0.5) * frame);
  return true;
}

if (player) {
  const playhead = document.getElementById("playhead");
  player.addEventListener("timeupdate", () => {
    const at = (player.currentTime + Number(player.dataset.first)) / Number(playhead?.dataset.length);
    playhead?.setAttribute("x", 1000 * at);
  });
  // A browser that cannot play the file gets the small copy. Where there is none, the server knows why; it may only be busy.
  const fault = document.getElementById("fault");
  const failed = async () => {
    if (player.dataset.small) return location.replace(player.dataset.small);
    const answer = await fetch(player.src).catch(() => null);
    if (answer?.ok) {
      if (fault.textContent) player.load(); // it was made meanwhile
      fault.textContent = fault.textContent ? "" : "This browser cannot play the small copy.";
      return;
    }
    const page = new DOMParser().parseFromString((await answer?.text()) ?? "", "text/html");
    fault.textContent = page.querySelector(".problem p")?.textContent ?? "The search page does not answer.";
    const again = Number(answer?.headers.get("retry-after"));
    if (again) setTimeout(failed, 1000 * again);
  };
  player.addEventListener("error", failed);
  if (player.error) failed();
}

// A pointer that rests on a card sees two seconds of its moment.
function preview(card) {
  const frames = card.querySelector(".frames");
  let waiting, shown;
  const stop = () => {
    clearTimeout(waiting);
    if (shown) {
      shown.removeAttribute("src");
      shown.load();
      shown.remove();
      shown = undefined;
    }
  };
  card.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse") return;
    waiting = setTimeout(() => {
      shown = document.createElement("video");
      shown.muted = true;
      shown.hidden = true; // until there is a picture: the still ones stay
      shown.src = card.dataset.preview;
      shown.addEventListener("playing", () => {
        shown.hidden = false;
        waiting = setTimeout(stop, PREVIEW_MS);
      }, { once: true });
      shown.addEventListener("error", stop);
      frames.append(shown);
      shown.play().catch(stop);
    }, HOVER_MS);
  });
  card.addEventListener("pointerleave", stop);
}
cards().forEach(preview);

// More moments come below those that are there, so that the place and what is selected stay.
document.addEventListener("click", async (event) => {
  const link = event.target.closest(".more a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.ariaBusy) return;
  link.ariaBusy = "true";
  const answer = await fetch(link.href).catch(() => null);
  const page = new DOMParser().parseFromString((await answer?.text()) ?? "", "text/html");
  const [shown, found] = [document, page].map((where) => [...where.querySelectorAll(".card")]);
  const moment = (card) => card.querySelector("input[name=pick]").value;
  // The index may have changed since, or the server have stopped: then the browser shows what there is now.
  if (found.length <= shown.length || shown.some((card, n) => moment(card) !== moment(found[n]))) return location.assign(link.href);
  history.replaceState(null, "", link.href.split("#")[0]);
  const open = (card) => card.querySelector(".open");
  shown.forEach((card, n) => open(card).setAttribute("href", open(found[n]).getAttribute("href"))); // back leads to all of them
  const added = found.slice(shown.length);
  document.querySelector(".cards").append(...added);
  added.map(open).forEach(preview);
  document.querySelector(".answer").replaceWith(page.querySelector(".answer"));
  link.closest(".more").replaceWith(page.querySelector(".more") ?? "");
  open(added[0]).focus({ preventScroll: true });
});

// The export says what it will hold.
const picked = document.getElementById("picked");
if (picked) {
  const count = () => {
    const chosen = document.querySelectorAll("input[name=pick]:checked").length;
    picked.textContent = chosen ? `Export the ${chosen} selected:` : `Export ${picked.dataset.all}:`;
  };
  document.addEventListener("change", count);
  window.addEventListener("pageshow", count); // a browser that goes back keeps the ticks
}

// A filter is a question of its own; without script, the button asks it.
for (const select of document.querySelectorAll(".filters select")) {
  select.addEventListener("change", () => (select.form.elements.q.value || select.form.elements.like) && select.form.requestSubmit());
}

// The box also knows what else people call what they look for.
const box = document.getElementById("q");
const names = document.getElementById("labels");
if (box && names) {
  let pause, asked = "";
  box.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(async () => {
      asked = box.value;
      const typed = asked;
      const answer = await fetch(`/api/suggest?${new URLSearchParams({ q: typed })}`).catch(() => null);
      if (!answer?.ok || typed !== asked) return; // somebody types faster than we answer
      const found = (await answer.json()).map(({ query, phrase, segments }) => {
        // Browsers show the options that have all that was typed, in the value or in the text.
        const said = phrase.includes(typed.trim().toLowerCase()) ? phrase : `${typed.trim()}, as in ${phrase}`;
        const option = new Option(`${said}: ${segments.toLocaleString("en")} segments`, query);
        option.dataset.phrase = phrase;
        return option;
      });
      names.querySelectorAll("[data-phrase]").forEach((option) => option.remove());
      names.append(...found);
    }, TYPING_MS);
  });
}

// While a run is at work, its page looks again; what the reader has opened below stays open.
const now = () => document.getElementById("now");
const look = async () => {
  const answer = await fetch(location.href).catch(() => null);
  if (answer?.ok) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    now().replaceWith(page.getElementById("now"));
  }
  if (now().hasAttribute("data-changes")) setTimeout(look, LOOK_MS);
  else if (answer?.ok) location.reload(); // it is over: the failures below are its own
};
if (now()?.hasAttribute("data-changes")) setTimeout(look, LOOK_MS);
