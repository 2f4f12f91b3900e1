"""Where weights come from: a cache, a mirror that misbehaves in every way, files of one's own."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from indexer.config import Model
from indexer.errors import WeightsError
from indexer.infer.models import MODELS, ModelEntry, model_spec
from indexer.infer.network import build_network
from indexer.infer.weights import Weights, cache_path, load_state, read_labels, resolve_weights, weights_identity

CONTENT = b"these bytes stand for weights" * 1000


class Mirror(http.server.BaseHTTPRequestHandler):
    mode = "good"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = {"html": b"<html>log in first</html>", "wrong": b"other bytes" * 1000}.get(self.mode, CONTENT)
        if self.mode == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.mode == "cut" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Mirror]]:
    """A server on loopback whose file is right: its name carries the hash of CONTENT, as torchvision's names do."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    entry = ModelEntry("r3d_18", "KINETICS400_V1", f"r3d_18-{digest[:8]}.pth", 16, 15, 5, "fc", 512)
    monkeypatch.setattr("indexer.infer.models.MODELS", (entry,))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("INDEXER_WEIGHTS_URL", f"http://127.0.0.1:{server.server_port}/weights/")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    Mirror.mode, Mirror.asked = "good", []
    yield Mirror
    server.shutdown()
    server.server_close()


MODEL = Model(name="r3d_18")


def test_missing_weights_are_fetched_once_from_the_mirror(mirror: type[Mirror], tmp_path: Path) -> None:
    found = resolve_weights(MODEL)
    assert Path(found.path or "").read_bytes() == CONTENT
    assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert resolve_weights(MODEL) == found
    assert len(mirror.asked) == 1
    assert mirror.asked[0].startswith("/weights/r3d_18-")


@pytest.mark.parametrize("mode", ["html", "wrong", "missing", "cut"])
def test_a_broken_download_is_exit_15_and_leaves_nothing(mirror: type[Mirror], mode: str, tmp_path: Path) -> None:
    mirror.mode = mode
    with pytest.raises(
        WeightsError, match=r"could not be fetched .* Put the file at .*r3d_18-.*\.pth, or set INDEXER_WEIGHTS_URL"
    ) as caught:
        resolve_weights(MODEL)
    assert caught.value.exit_code == 15
    assert [path for path in (tmp_path / "torch").rglob("*") if path.is_file()] == []


def test_no_mirror_there_is_exit_15(mirror: type[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEXER_WEIGHTS_URL", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="could not be fetched"):
        resolve_weights(MODEL)


def test_a_damaged_cache_is_named(mirror: type[Mirror]) -> None:
    path = Path(resolve_weights(MODEL).path or "")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"is damaged: its sha256 begins with .* Delete it"):
        resolve_weights(MODEL)


def test_the_cache_is_torch_hubs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in [("TORCH_HOME", str(tmp_path)), ("XDG_CACHE_HOME", str(tmp_path / "x"))]:
        monkeypatch.delenv("TORCH_HOME", raising=False)
        monkeypatch.setenv(name, value)
        assert cache_path(MODELS[0]).parent == Path(torch.hub.get_dir()) / "checkpoints"


def test_identity_needs_no_download() -> None:
    entry = MODELS[0]
    assert weights_identity(MODEL) == entry.weights_file[-12:-4] == "b3b3357e"
    assert weights_identity(Model(name="r3d_18", weights="random")) == "random-0"


def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = get_model("r3d_18", num_classes=2).state_dict()
    return state


def own_spec(*labels: str, name: str = "r3d_18") -> Any:
    model: Any = SimpleNamespace(name=name, weights="x.pth")
    sampling: Any = SimpleNamespace(frames=None, fps=None)
    return model_spec(model, sampling, labels)


@pytest.mark.parametrize("name", ["r3d_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_a_network_is_that_of_its_checkpoint_to_the_last_number(name: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    made = get_model(name, num_classes=2)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    network = build_network(own_spec("a", "b", name=name), Weights(str(tmp_path / "w.pth"), ""))
    expected, found = dict(made.named_parameters()) | dict(made.named_buffers()), network.state_dict()
    found |= dict(network.named_buffers())  # some are not part of the state
    assert list(expected.keys() - found.keys()) == []
    assert [key for key, value in expected.items() if not torch.equal(value, found[key])] == []
    assert bool((nn.init.ones_(torch.zeros(1)) == 1).all())  # torch itself is as it was


@pytest.mark.parametrize("form", ["plain", "model", "state_dict", "module.", "safetensors"])
def test_checkpoints_of_every_usual_form_load(form: str, tmp_path: Path) -> None:
    state = small_state()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        content: Any = {"plain": state, "module.": {f"module.{k}": v for k, v in state.items()}}.get(
            form, {form: state, "epoch": 3}
        )
        torch.save(content, path)
    network = build_network(own_spec("a", "b"), Weights(str(path), ""))
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_wrong_number_of_classes_says_both_numbers(tmp_path: Path) -> None:
    torch.save(small_state(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"has 2 classes, but there are 3 labels: set model\.labels"):
        build_network(own_spec("a", "b", "c"), Weights(str(tmp_path / "w.pth"), ""))


def test_missing_and_unknown_layers_are_counted_and_named(tmp_path: Path) -> None:
    state = small_state()
    state["extra.weight"] = state.pop("stem.0.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"1 layers are missing \(stem\.0\.weight\), 1 are unknown \(extra\.weight\)"):
        build_network(own_spec("a", "b"), Weights(str(tmp_path / "w.pth"), ""))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/indexer-test-evil"),)


@pytest.mark.parametrize("content", ["code", "text", "cut", "list"])
def test_what_is_no_state_dict_is_refused_and_never_run(content: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"code": Evil(), "list": [1, 2]}.get(content, small_state()), path)
    if content == "text":
        path.write_text("not weights")
    if content == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError):
        load_state(Weights(str(path), ""))
    assert not Path("/tmp/indexer-test-evil").exists()


def test_labels_are_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("running\n\n jumping \n")
    assert read_labels(str(path)) == ("running", "jumping")
    path.write_text("\ufeffrunning\njumping\n")  # as some editors begin a file
    assert read_labels(str(path)) == ("running", "jumping")
    path.write_text("running\nrunning\n")
    with pytest.raises(WeightsError, match=r"repeated: \['running'\]"):
        read_labels(str(path))
    with pytest.raises(WeightsError, match="cannot be read"):
        read_labels(str(tmp_path / "none.txt"))
    assert read_labels(None) is None
