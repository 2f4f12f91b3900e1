BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE hit (
	recipe_id SMALLINT NOT NULL, 
	label_id SMALLINT NOT NULL, 
	video_id INTEGER NOT NULL, 
	start_ms INTEGER NOT NULL, 
	end_ms INTEGER NOT NULL, 
	score SMALLINT NOT NULL, 
	CONSTRAINT pk_hit PRIMARY KEY (recipe_id, label_id, video_id, start_ms)
)
 WITHOUT ROWID

;
INSERT INTO "hit" VALUES(1,1,1,10000,20000,10000);
INSERT INTO "hit" VALUES(1,3,1,0,10000,9123);
INSERT INTO "hit" VALUES(2,1,1,10000,20000,10000);
INSERT INTO "hit" VALUES(2,2,2,0,10000,4000);
INSERT INTO "hit" VALUES(2,3,1,0,10000,5000);
CREATE TABLE label (
	id INTEGER NOT NULL, 
	label_set TEXT NOT NULL, 
	name TEXT NOT NULL, 
	CONSTRAINT pk_label PRIMARY KEY (id), 
	CONSTRAINT uq_label_label_set_name UNIQUE (label_set, name)
);
INSERT INTO "label" VALUES(1,'46b1f520f0ee','archery');
INSERT INTO "label" VALUES(2,'46b1f520f0ee','bowling');
INSERT INTO "label" VALUES(3,'46b1f520f0ee','yoga');
CREATE TABLE label_stat (
	recipe_id SMALLINT NOT NULL, 
	label_id SMALLINT NOT NULL, 
	bucket SMALLINT NOT NULL, 
	n BIGINT NOT NULL, 
	CONSTRAINT pk_label_stat PRIMARY KEY (recipe_id, label_id, bucket)
)
 WITHOUT ROWID

;
INSERT INTO "label_stat" VALUES(1,1,9,1);
INSERT INTO "label_stat" VALUES(1,3,9,1);
INSERT INTO "label_stat" VALUES(2,1,9,1);
INSERT INTO "label_stat" VALUES(2,2,4,1);
INSERT INTO "label_stat" VALUES(2,3,5,1);
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
INSERT INTO "lease" VALUES(4,'killed','n','archive-1','its last boot',4711,'123',1.79565876937201929089e+09,1.79565882937201929097e+09);
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
INSERT INTO "part" VALUES(1,'parts/48e80b6c135e4d3d87a9552a86b7581d.parquet',1,1,3,30,'00','live',1.7956587691528351307e+09,NULL);
INSERT INTO "part" VALUES(2,'parts/e2e369a04d674863b8612aab538f5356.parquet',1,1,2,20,'00','retired',1.7956587692296772003e+09,1.79565876934563946722e+09);
INSERT INTO "part" VALUES(3,'parts/73ec36a3331842ecb976a858c1b02748.parquet',2,2,3,30,'00','live',1.795658769280734539e+09,NULL);
INSERT INTO "part" VALUES(4,'parts/6746d9dd69fc40bdba518e3752265340.parquet',2,2,2,20,'00','live',1.79565876931071281429e+09,NULL);
CREATE TABLE recipe (
	id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	document TEXT NOT NULL, 
	label_set TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_recipe PRIMARY KEY (id), 
	CONSTRAINT uq_recipe_digest UNIQUE (digest)
);
INSERT INTO "recipe" VALUES(1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"model":"r3d_18"}','46b1f520f0ee',1.79565876910109782213e+09);
INSERT INTO "recipe" VALUES(2,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"model":"s3d"}','46b1f520f0ee',1.79565876926728105545e+09);
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
INSERT INTO "result" VALUES(1,1,'indexed',1,1,1,NULL,NULL,'1','1',2,4,'["W_X"]',1.7956587691528351307e+09);
INSERT INTO "result" VALUES(2,1,'pending',NULL,1,NULL,NULL,NULL,'2',NULL,0,0,'[]',1.795658769280734539e+09);
INSERT INTO "result" VALUES(3,1,'failed',1,1,NULL,'E_TRUNCATED','cut
short','1',NULL,0,0,'[]',1.79565876920802569389e+09);
INSERT INTO "result" VALUES(4,1,'skipped',1,1,NULL,'no_video',NULL,'1',NULL,0,0,'[]',1.79565876920802569389e+09);
INSERT INTO "result" VALUES(6,1,'pending',NULL,1,NULL,NULL,NULL,'1',NULL,0,0,'[]',1.79565876934563946722e+09);
INSERT INTO "result" VALUES(1,2,'indexed',2,1,3,NULL,NULL,'1','1',2,4,'["W_X"]',1.795658769280734539e+09);
INSERT INTO "result" VALUES(2,2,'indexed',2,1,4,NULL,NULL,'2','2',1,2,'["W_X"]',1.79565876931071281429e+09);
INSERT INTO "result" VALUES(3,2,'failed',2,1,NULL,'E_TRUNCATED','cut
short','1',NULL,0,0,'[]',1.79565876929786539077e+09);
INSERT INTO "result" VALUES(4,2,'skipped',2,1,NULL,'no_video',NULL,'1',NULL,0,0,'[]',1.79565876929786539077e+09);
INSERT INTO "result" VALUES(6,2,'pending',NULL,1,NULL,NULL,NULL,'1',NULL,0,0,'[]',1.79565876934563946722e+09);
INSERT INTO "result" VALUES(13,1,'pending',3,1,NULL,NULL,NULL,'1',NULL,0,0,'[]',1.79565876935672402376e+09);
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
INSERT INTO "run" VALUES(1,'archive',1,1.7956587690977306366e+09,1.79565876924579787251e+09,'partial','{"videos": {"found": 5}}',1);
INSERT INTO "run" VALUES(2,'archive',2,1.79565876926707124715e+09,1.79565876932197499276e+09,'partial','{"videos": {"found": 5}}',2);
INSERT INTO "run" VALUES(3,'archive',1,1.79565876933341789243e+09,NULL,NULL,NULL,3);
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
INSERT INTO "video" VALUES(1,'/archive/a.mp4','/archive','1',100,5.0,20000,320,240,'h264',25.0,NULL);
INSERT INTO "video" VALUES(2,'/archive/b é.mp4','/archive','2',100,5.0,10000,320,240,'h264',25.0,NULL);
INSERT INTO "video" VALUES(3,'/archive/c.mp4','/archive','1',100,5.0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "video" VALUES(4,'/archive/d.mp4','/archive','1',100,5.0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "video" VALUES(6,'/archive/gone.mp4','/archive','1',100,5.0,10000,320,240,'h264',25.0,1.79565876934563946722e+09);
INSERT INTO "video" VALUES(13,'/archive/e.mp4','/archive','1',100,5.0,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX ix_video_modified_at ON video (modified_at) WHERE gone_at IS NULL;
CREATE INDEX ix_result_part_id ON result (part_id);
CREATE INDEX ix_result_recipe_id_state_part_id ON result (recipe_id, state, part_id);
CREATE INDEX ix_hit_strong ON hit (recipe_id, label_id, score DESC, video_id) WHERE score >= 5000;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('lease',4);
INSERT INTO "sqlite_sequence" VALUES('run',3);
INSERT INTO "sqlite_sequence" VALUES('video',13);
INSERT INTO "sqlite_sequence" VALUES('part',4);
COMMIT;
