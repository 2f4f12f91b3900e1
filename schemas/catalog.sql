-- sqlite

CREATE TABLE recipe (
    id INTEGER NOT NULL,
    digest TEXT NOT NULL,
    document TEXT NOT NULL,
    label_set TEXT NOT NULL,
    created_at DOUBLE NOT NULL,
    CONSTRAINT pk_recipe PRIMARY KEY (id),
    CONSTRAINT uq_recipe_digest UNIQUE (digest)
);
CREATE TABLE label (
    id INTEGER NOT NULL,
    label_set TEXT NOT NULL,
    name TEXT NOT NULL,
    CONSTRAINT pk_label PRIMARY KEY (id),
    CONSTRAINT uq_label_label_set_name UNIQUE (label_set, name)
);
CREATE TABLE lease (
    token INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    nonce TEXT NOT NULL,
    host TEXT NOT NULL,
    kernel TEXT NOT NULL,
    pid INTEGER NOT NULL,
    began TEXT NOT NULL,
    acquired_at DOUBLE NOT NULL,
    expires_at DOUBLE NOT NULL,
    CONSTRAINT uq_lease_job UNIQUE (job)
);
CREATE TABLE video (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    uri TEXT NOT NULL,
    source TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    modified_at DOUBLE NOT NULL,
    duration_ms BIGINT,
    width INTEGER,
    height INTEGER,
    codec TEXT,
    average_fps DOUBLE,
    gone_at DOUBLE,
    CONSTRAINT uq_video_uri UNIQUE (uri)
);
CREATE INDEX ix_video_modified_at ON video (modified_at) WHERE gone_at IS NULL;
CREATE TABLE hit (
    recipe_id SMALLINT NOT NULL,
    label_id SMALLINT NOT NULL,
    video_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    score SMALLINT NOT NULL,
    CONSTRAINT pk_hit PRIMARY KEY (recipe_id, label_id, video_id, start_ms)
)
 WITHOUT ROWID;
CREATE INDEX ix_hit_strong ON hit (recipe_id, label_id, score DESC, video_id) WHERE score >= 5000;
CREATE TABLE label_stat (
    recipe_id SMALLINT NOT NULL,
    label_id SMALLINT NOT NULL,
    bucket SMALLINT NOT NULL,
    n BIGINT NOT NULL,
    CONSTRAINT pk_label_stat PRIMARY KEY (recipe_id, label_id, bucket)
)
 WITHOUT ROWID;
CREATE TABLE run (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    recipe_id INTEGER NOT NULL,
    started_at DOUBLE NOT NULL,
    finished_at DOUBLE,
    outcome TEXT,
    report TEXT,
    lease_token INTEGER NOT NULL,
    CONSTRAINT fk_run_recipe_id FOREIGN KEY(recipe_id) REFERENCES recipe (id),
    CONSTRAINT uq_run_lease_token UNIQUE (lease_token)
);
CREATE TABLE part (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    recipe_id INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at DOUBLE NOT NULL,
    retired_at DOUBLE,
    CONSTRAINT ck_part_state CHECK (state IN ('live', 'retired')),
    CONSTRAINT uq_part_name UNIQUE (name),
    CONSTRAINT fk_part_run_id FOREIGN KEY(run_id) REFERENCES run (id),
    CONSTRAINT fk_part_recipe_id FOREIGN KEY(recipe_id) REFERENCES recipe (id)
);
CREATE TABLE result (
    video_id INTEGER NOT NULL,
    recipe_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    fence INTEGER,
    attempts INTEGER NOT NULL,
    part_id INTEGER,
    code TEXT,
    message TEXT,
    fingerprint TEXT NOT NULL,
    indexed_fingerprint TEXT,
    segments INTEGER NOT NULL,
    clips INTEGER NOT NULL,
    warnings TEXT NOT NULL,
    updated_at DOUBLE NOT NULL,
    CONSTRAINT pk_result PRIMARY KEY (video_id, recipe_id),
    CONSTRAINT ck_result_state CHECK (state IN ('pending', 'indexed', 'failed', 'skipped')),
    CONSTRAINT fk_result_video_id FOREIGN KEY(video_id) REFERENCES video (id),
    CONSTRAINT fk_result_recipe_id FOREIGN KEY(recipe_id) REFERENCES recipe (id),
    CONSTRAINT fk_result_part_id FOREIGN KEY(part_id) REFERENCES part (id)
);
CREATE INDEX ix_result_part_id ON result (part_id);
CREATE INDEX ix_result_recipe_id_state_part_id ON result (recipe_id, state, part_id);

-- postgresql

CREATE TABLE recipe (
    id SMALLSERIAL NOT NULL,
    digest TEXT NOT NULL,
    document TEXT NOT NULL,
    label_set TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_recipe PRIMARY KEY (id),
    CONSTRAINT uq_recipe_digest UNIQUE (digest)
);
CREATE TABLE label (
    id SMALLSERIAL NOT NULL,
    label_set TEXT NOT NULL,
    name TEXT NOT NULL,
    CONSTRAINT pk_label PRIMARY KEY (id),
    CONSTRAINT uq_label_label_set_name UNIQUE (label_set, name)
);
CREATE TABLE lease (
    token SERIAL NOT NULL,
    job TEXT NOT NULL,
    nonce TEXT NOT NULL,
    host TEXT NOT NULL,
    kernel TEXT NOT NULL,
    pid INTEGER NOT NULL,
    began TEXT NOT NULL,
    acquired_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_lease PRIMARY KEY (token),
    CONSTRAINT uq_lease_job UNIQUE (job)
);
CREATE TABLE video (
    id SERIAL NOT NULL,
    uri TEXT COLLATE "C" NOT NULL,
    source TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    modified_at DOUBLE PRECISION NOT NULL,
    duration_ms BIGINT,
    width INTEGER,
    height INTEGER,
    codec TEXT,
    average_fps DOUBLE PRECISION,
    gone_at DOUBLE PRECISION,
    CONSTRAINT pk_video PRIMARY KEY (id),
    CONSTRAINT uq_video_uri UNIQUE (uri)
);
CREATE INDEX ix_video_modified_at ON video (modified_at) WHERE gone_at IS NULL;
CREATE TABLE hit (
    recipe_id SMALLINT NOT NULL,
    label_id SMALLINT NOT NULL,
    video_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    score SMALLINT NOT NULL
);
CREATE INDEX ix_hit_strong ON hit (recipe_id, label_id, score DESC, video_id) WHERE score >= 5000;
CREATE UNIQUE INDEX uq_hit ON hit (recipe_id, label_id, video_id, start_ms) INCLUDE (end_ms, score);
CREATE TABLE label_stat (
    recipe_id SMALLINT NOT NULL,
    label_id SMALLINT NOT NULL,
    bucket SMALLINT NOT NULL,
    n BIGINT NOT NULL,
    CONSTRAINT pk_label_stat PRIMARY KEY (recipe_id, label_id, bucket)
);
CREATE TABLE run (
    id SERIAL NOT NULL,
    job TEXT NOT NULL,
    recipe_id SMALLINT NOT NULL,
    started_at DOUBLE PRECISION NOT NULL,
    finished_at DOUBLE PRECISION,
    outcome TEXT,
    report TEXT,
    lease_token INTEGER NOT NULL,
    CONSTRAINT pk_run PRIMARY KEY (id),
    CONSTRAINT fk_run_recipe_id FOREIGN KEY(recipe_id) REFERENCES recipe (id),
    CONSTRAINT uq_run_lease_token UNIQUE (lease_token)
);
CREATE TABLE part (
    id SERIAL NOT NULL,
    name TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    recipe_id SMALLINT NOT NULL,
    rows INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    retired_at DOUBLE PRECISION,
    CONSTRAINT pk_part PRIMARY KEY (id),
    CONSTRAINT ck_part_state CHECK (state IN ('live', 'retired')),
    CONSTRAINT uq_part_name UNIQUE (name),
    CONSTRAINT fk_part_run_id FOREIGN KEY(run_id) REFERENCES run (id),
    CONSTRAINT fk_part_recipe_id FOREIGN KEY(recipe_id) REFERENCES recipe (id)
);
CREATE TABLE result (
    video_id INTEGER NOT NULL,
    recipe_id SMALLINT NOT NULL,
    state TEXT NOT NULL,
    fence INTEGER,
    attempts INTEGER NOT NULL,
    part_id INTEGER,
    code TEXT,
    message TEXT,
    fingerprint TEXT NOT NULL,
    indexed_fingerprint TEXT,
    segments INTEGER NOT NULL,
    clips INTEGER NOT NULL,
    warnings TEXT NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_result PRIMARY KEY (video_id, recipe_id),
    CONSTRAINT ck_result_state CHECK (state IN ('pending', 'indexed', 'failed', 'skipped')),
    CONSTRAINT fk_result_video_id FOREIGN KEY(video_id) REFERENCES video (id),
    CONSTRAINT fk_result_recipe_id FOREIGN KEY(recipe_id) REFERENCES recipe (id),
    CONSTRAINT fk_result_part_id FOREIGN KEY(part_id) REFERENCES part (id)
);
CREATE INDEX ix_result_part_id ON result (part_id);
CREATE INDEX ix_result_recipe_id_state_part_id ON result (recipe_id, state, part_id);
