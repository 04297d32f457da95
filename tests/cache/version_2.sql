CREATE TABLE settings (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    latent_shape TEXT NOT NULL,
    num_frames INTEGER NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    fps REAL NOT NULL,
    prompt TEXT NOT NULL,
    seed INTEGER NOT NULL,
    schedule TEXT NOT NULL,
    file TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    last_used REAL NOT NULL,
    is_pinned INTEGER NOT NULL DEFAULT 0
, parent TEXT, reuse_depth INTEGER NOT NULL DEFAULT 0, drift REAL, compute_seconds REAL NOT NULL DEFAULT 0, extra TEXT NOT NULL DEFAULT '{}');
CREATE INDEX entries_by_use ON entries (is_pinned, last_used, number);
CREATE INDEX entries_by_bytes ON entries (is_pinned, bytes);
CREATE TABLE shelves (
    number INTEGER PRIMARY KEY,
    embedder TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    latent_shape TEXT NOT NULL,
    kind TEXT NOT NULL,
    dim INTEGER NOT NULL,
    UNIQUE (embedder, kind, fingerprint, latent_shape)
);
CREATE TABLE vectors (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    shelf INTEGER NOT NULL REFERENCES shelves (number),
    digest BLOB NOT NULL,
    embedding BLOB NOT NULL,
    UNIQUE (shelf, digest)
);
CREATE TABLE entities (
    number INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL REFERENCES entries (number) ON DELETE CASCADE,
    vector INTEGER NOT NULL REFERENCES vectors (number),
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    head TEXT NOT NULL,
    count INTEGER
);
CREATE INDEX entities_by_entry ON entities (entry);
CREATE INDEX entities_by_vector ON entities (vector, entry);
CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, entry INTEGER NOT NULL, what TEXT NOT NULL);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    entry TEXT,
    bytes INTEGER NOT NULL
);
CREATE TABLE days (
    day TEXT NOT NULL,
    kind TEXT NOT NULL,
    times INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (day, kind)
) WITHOUT ROWID;
PRAGMA application_id = 0x43484149;
PRAGMA user_version = 2;
INSERT INTO settings VALUES ('cache', '00112233445566aa'), ('budget_bytes', 5000);
INSERT INTO events (at, kind, entry, bytes)
    VALUES (86400.0, 'insert', '0123456789abcdef', 344), (86401.0, 'hit', '0123456789abcdef', 0);
INSERT INTO days VALUES ('1970-01-02', 'hit', 1, 0), ('1970-01-02', 'insert', 1, 344);
