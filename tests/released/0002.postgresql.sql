--
-- PostgreSQL database dump
--


-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: hit; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.hit (
    recipe_id smallint NOT NULL,
    label_id smallint NOT NULL,
    video_id integer NOT NULL,
    start_ms integer NOT NULL,
    end_ms integer NOT NULL,
    score smallint NOT NULL
);


--
-- Name: label; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.label (
    id smallint NOT NULL,
    label_set text NOT NULL,
    name text NOT NULL
);


--
-- Name: label_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.label_id_seq
    AS smallint
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: label_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.label_id_seq OWNED BY public.label.id;


--
-- Name: label_stat; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.label_stat (
    recipe_id smallint NOT NULL,
    label_id smallint NOT NULL,
    bucket smallint NOT NULL,
    n bigint NOT NULL
);


--
-- Name: lease; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.lease (
    token integer NOT NULL,
    job text NOT NULL,
    nonce text NOT NULL,
    host text NOT NULL,
    kernel text NOT NULL,
    pid integer NOT NULL,
    began text NOT NULL,
    acquired_at double precision NOT NULL,
    expires_at double precision NOT NULL
);


--
-- Name: lease_token_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.lease_token_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: lease_token_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.lease_token_seq OWNED BY public.lease.token;


--
-- Name: part; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.part (
    id integer NOT NULL,
    name text NOT NULL,
    run_id integer NOT NULL,
    recipe_id smallint NOT NULL,
    rows integer NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    state text NOT NULL,
    created_at double precision NOT NULL,
    retired_at double precision,
    CONSTRAINT ck_part_state CHECK ((state = ANY (ARRAY['live'::text, 'retired'::text])))
);


--
-- Name: part_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.part_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: part_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.part_id_seq OWNED BY public.part.id;


--
-- Name: recipe; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.recipe (
    id smallint NOT NULL,
    digest text NOT NULL,
    document text NOT NULL,
    label_set text NOT NULL,
    created_at double precision NOT NULL
);


--
-- Name: recipe_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.recipe_id_seq
    AS smallint
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: recipe_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.recipe_id_seq OWNED BY public.recipe.id;


--
-- Name: result; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.result (
    video_id integer NOT NULL,
    recipe_id smallint NOT NULL,
    state text NOT NULL,
    fence integer,
    attempts integer NOT NULL,
    part_id integer,
    code text,
    message text,
    fingerprint text NOT NULL,
    indexed_fingerprint text,
    segments integer NOT NULL,
    clips integer NOT NULL,
    warnings text NOT NULL,
    updated_at double precision NOT NULL,
    CONSTRAINT ck_result_state CHECK ((state = ANY (ARRAY['pending'::text, 'indexed'::text, 'failed'::text, 'skipped'::text])))
);


--
-- Name: run; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.run (
    id integer NOT NULL,
    job text NOT NULL,
    recipe_id smallint NOT NULL,
    started_at double precision NOT NULL,
    finished_at double precision,
    outcome text,
    report text,
    lease_token integer NOT NULL
);


--
-- Name: run_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.run_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: run_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.run_id_seq OWNED BY public.run.id;


--
-- Name: video; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.video (
    id integer NOT NULL,
    uri text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL,
    fingerprint text NOT NULL,
    size_bytes bigint NOT NULL,
    modified_at double precision NOT NULL,
    duration_ms bigint,
    width integer,
    height integer,
    codec text,
    average_fps double precision,
    gone_at double precision
);


--
-- Name: video_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.video_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: video_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.video_id_seq OWNED BY public.video.id;


--
-- Name: label id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.label ALTER COLUMN id SET DEFAULT nextval('public.label_id_seq'::regclass);


--
-- Name: lease token; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.lease ALTER COLUMN token SET DEFAULT nextval('public.lease_token_seq'::regclass);


--
-- Name: part id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.part ALTER COLUMN id SET DEFAULT nextval('public.part_id_seq'::regclass);


--
-- Name: recipe id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.recipe ALTER COLUMN id SET DEFAULT nextval('public.recipe_id_seq'::regclass);


--
-- Name: run id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.run ALTER COLUMN id SET DEFAULT nextval('public.run_id_seq'::regclass);


--
-- Name: video id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.video ALTER COLUMN id SET DEFAULT nextval('public.video_id_seq'::regclass);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES ('0002');


--
-- Data for Name: hit; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.hit VALUES (1, 1, 1, 10000, 20000, 10000);
INSERT INTO public.hit VALUES (1, 3, 1, 0, 10000, 9123);
INSERT INTO public.hit VALUES (2, 1, 1, 10000, 20000, 10000);
INSERT INTO public.hit VALUES (2, 3, 1, 0, 10000, 5000);
INSERT INTO public.hit VALUES (2, 2, 2, 0, 10000, 4000);


--
-- Data for Name: label; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.label VALUES (1, '46b1f520f0ee', 'archery');
INSERT INTO public.label VALUES (2, '46b1f520f0ee', 'bowling');
INSERT INTO public.label VALUES (3, '46b1f520f0ee', 'yoga');


--
-- Data for Name: label_stat; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.label_stat VALUES (1, 1, 9, 1);
INSERT INTO public.label_stat VALUES (1, 3, 9, 1);
INSERT INTO public.label_stat VALUES (2, 1, 9, 1);
INSERT INTO public.label_stat VALUES (2, 3, 5, 1);
INSERT INTO public.label_stat VALUES (2, 2, 4, 1);


--
-- Data for Name: lease; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.lease VALUES (4, 'killed', 'n', 'archive-1', 'its last boot', 4711, '123', 1795658775.334355, 1795658835.334355);


--
-- Data for Name: part; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.part VALUES (1, 'parts/2834cef38a3748d3808b24dc4fb69d53.parquet', 1, 1, 3, 30, '00', 'live', 1795658774.8569512, NULL);
INSERT INTO public.part VALUES (3, 'parts/3a3efc6b905c41d7a69a17bf275bce84.parquet', 2, 2, 3, 30, '00', 'live', 1795658775.0571637, NULL);
INSERT INTO public.part VALUES (4, 'parts/dd50ddc083b8441685ac07cd4df2f351.parquet', 2, 2, 2, 20, '00', 'live', 1795658775.1719282, NULL);
INSERT INTO public.part VALUES (2, 'parts/d10fb68892204b4bb983388af22cecd7.parquet', 1, 1, 2, 20, '00', 'retired', 1795658774.9537113, 1795658775.2573094);


--
-- Data for Name: recipe; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.recipe VALUES (1, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '{"model":"r3d_18"}', '46b1f520f0ee', 1795658774.8249063);
INSERT INTO public.recipe VALUES (2, 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', '{"model":"s3d"}', '46b1f520f0ee', 1795658775.03314);


--
-- Data for Name: result; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.result VALUES (1, 1, 'indexed', 1, 1, 1, NULL, NULL, '1', '1', 2, 4, '["W_X"]', 1795658774.8569512);
INSERT INTO public.result VALUES (3, 1, 'failed', 1, 1, NULL, 'E_TRUNCATED', 'cut
short', '1', NULL, 0, 0, '[]', 1795658774.920075);
INSERT INTO public.result VALUES (4, 1, 'skipped', 1, 1, NULL, 'no_video', NULL, '1', NULL, 0, 0, '[]', 1795658774.920075);
INSERT INTO public.result VALUES (2, 1, 'pending', NULL, 1, NULL, NULL, NULL, '2', NULL, 0, 0, '[]', 1795658775.0571637);
INSERT INTO public.result VALUES (1, 2, 'indexed', 2, 1, 3, NULL, NULL, '1', '1', 2, 4, '["W_X"]', 1795658775.0571637);
INSERT INTO public.result VALUES (3, 2, 'failed', 2, 1, NULL, 'E_TRUNCATED', 'cut
short', '1', NULL, 0, 0, '[]', 1795658775.1281335);
INSERT INTO public.result VALUES (4, 2, 'skipped', 2, 1, NULL, 'no_video', NULL, '1', NULL, 0, 0, '[]', 1795658775.1281335);
INSERT INTO public.result VALUES (2, 2, 'indexed', 2, 1, 4, NULL, NULL, '2', '2', 1, 2, '["W_X"]', 1795658775.1719282);
INSERT INTO public.result VALUES (6, 1, 'pending', NULL, 1, NULL, NULL, NULL, '1', NULL, 0, 0, '[]', 1795658775.2573094);
INSERT INTO public.result VALUES (6, 2, 'pending', NULL, 1, NULL, NULL, NULL, '1', NULL, 0, 0, '[]', 1795658775.2573094);
INSERT INTO public.result VALUES (13, 1, 'pending', 3, 1, NULL, NULL, NULL, '1', NULL, 0, 0, '[]', 1795658775.3127615);


--
-- Data for Name: run; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.run VALUES (1, 'archive', 1, 1795658774.8246841, 1795658774.9977372, 'partial', '{"videos": {"found": 5}}', 1);
INSERT INTO public.run VALUES (2, 'archive', 2, 1795658775.032953, 1795658775.2099082, 'partial', '{"videos": {"found": 5}}', 2);
INSERT INTO public.run VALUES (3, 'archive', 1, 1795658775.2536616, NULL, NULL, NULL, 3);


--
-- Data for Name: video; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.video VALUES (1, '/archive/a.mp4', '/archive', '1', 100, 5, 20000, 320, 240, 'h264', 25, NULL);
INSERT INTO public.video VALUES (3, '/archive/c.mp4', '/archive', '1', 100, 5, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.video VALUES (4, '/archive/d.mp4', '/archive', '1', 100, 5, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.video VALUES (2, '/archive/b é.mp4', '/archive', '2', 100, 5, 10000, 320, 240, 'h264', 25, NULL);
INSERT INTO public.video VALUES (6, '/archive/gone.mp4', '/archive', '1', 100, 5, 10000, 320, 240, 'h264', 25, 1795658775.2573094);
INSERT INTO public.video VALUES (13, '/archive/e.mp4', '/archive', '1', 100, 5, NULL, NULL, NULL, NULL, NULL, NULL);


--
-- Name: label_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.label_id_seq', 3, true);


--
-- Name: lease_token_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.lease_token_seq', 4, true);


--
-- Name: part_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.part_id_seq', 4, true);


--
-- Name: recipe_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.recipe_id_seq', 2, true);


--
-- Name: run_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.run_id_seq', 3, true);


--
-- Name: video_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.video_id_seq', 13, true);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: label pk_label; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.label
    ADD CONSTRAINT pk_label PRIMARY KEY (id);


--
-- Name: label_stat pk_label_stat; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.label_stat
    ADD CONSTRAINT pk_label_stat PRIMARY KEY (recipe_id, label_id, bucket);


--
-- Name: lease pk_lease; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.lease
    ADD CONSTRAINT pk_lease PRIMARY KEY (token);


--
-- Name: part pk_part; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.part
    ADD CONSTRAINT pk_part PRIMARY KEY (id);


--
-- Name: recipe pk_recipe; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.recipe
    ADD CONSTRAINT pk_recipe PRIMARY KEY (id);


--
-- Name: result pk_result; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.result
    ADD CONSTRAINT pk_result PRIMARY KEY (video_id, recipe_id);


--
-- Name: run pk_run; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.run
    ADD CONSTRAINT pk_run PRIMARY KEY (id);


--
-- Name: video pk_video; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.video
    ADD CONSTRAINT pk_video PRIMARY KEY (id);


--
-- Name: label uq_label_label_set_name; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.label
    ADD CONSTRAINT uq_label_label_set_name UNIQUE (label_set, name);


--
-- Name: lease uq_lease_job; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.lease
    ADD CONSTRAINT uq_lease_job UNIQUE (job);


--
-- Name: part uq_part_name; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.part
    ADD CONSTRAINT uq_part_name UNIQUE (name);


--
-- Name: recipe uq_recipe_digest; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.recipe
    ADD CONSTRAINT uq_recipe_digest UNIQUE (digest);


--
-- Name: run uq_run_lease_token; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.run
    ADD CONSTRAINT uq_run_lease_token UNIQUE (lease_token);


--
-- Name: video uq_video_uri; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.video
    ADD CONSTRAINT uq_video_uri UNIQUE (uri);


--
-- Name: ix_hit_strong; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_hit_strong ON public.hit USING btree (recipe_id, label_id, score DESC, video_id) WHERE (score >= 5000);


--
-- Name: ix_result_part_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_result_part_id ON public.result USING btree (part_id);


--
-- Name: ix_result_recipe_id_state_part_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_result_recipe_id_state_part_id ON public.result USING btree (recipe_id, state, part_id);


--
-- Name: ix_video_modified_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_video_modified_at ON public.video USING btree (modified_at) WHERE (gone_at IS NULL);


--
-- Name: uq_hit; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX uq_hit ON public.hit USING btree (recipe_id, label_id, video_id, start_ms) INCLUDE (end_ms, score);


--
-- Name: part fk_part_recipe_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.part
    ADD CONSTRAINT fk_part_recipe_id FOREIGN KEY (recipe_id) REFERENCES public.recipe(id);


--
-- Name: part fk_part_run_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.part
    ADD CONSTRAINT fk_part_run_id FOREIGN KEY (run_id) REFERENCES public.run(id);


--
-- Name: result fk_result_part_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.result
    ADD CONSTRAINT fk_result_part_id FOREIGN KEY (part_id) REFERENCES public.part(id);


--
-- Name: result fk_result_recipe_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.result
    ADD CONSTRAINT fk_result_recipe_id FOREIGN KEY (recipe_id) REFERENCES public.recipe(id);


--
-- Name: result fk_result_video_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.result
    ADD CONSTRAINT fk_result_video_id FOREIGN KEY (video_id) REFERENCES public.video(id);


--
-- Name: run fk_run_recipe_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.run
    ADD CONSTRAINT fk_run_recipe_id FOREIGN KEY (recipe_id) REFERENCES public.recipe(id);


--
-- PostgreSQL database dump complete
--


