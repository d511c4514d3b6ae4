//! sqlite: write-ahead log, shared memory and mapped reads, with several processes at once.

use super::{bash, on_tmpfs_and_okapi};

#[test]
fn sqlite_with_wal_and_mmap_keeps_what_concurrent_writers_committed() {
    on_tmpfs_and_okapi("1G", |dir| {
        let found = bash(
            dir,
            r#"
            sql() { sqlite3 -batch -bail -cmd '.timeout 60000' -cmd 'PRAGMA mmap_size=268435456' db "$@" | tail -n +2; }
            test "$(sql 'PRAGMA journal_mode=WAL')" = wal
            sql 'CREATE TABLE entry (id INTEGER PRIMARY KEY, writer INTEGER, bytes BLOB)'
            writer() {
                for round in $(seq 20); do
                    sql "BEGIN IMMEDIATE;
                         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                         INSERT INTO entry (writer, bytes) SELECT $1, randomblob(300) FROM n;
                         COMMIT"
                done
            }
            # Each transaction adds 200 rows: a reader that sees another number saw half of one.
            reader() {
                for round in $(seq 20); do
                    test "$(sql 'SELECT count(*) % 200 FROM entry')" = 0
                done
            }
            jobs=()
            for n in 1 2 3; do writer $n & jobs+=($!); reader & jobs+=($!); done
            for job in "${jobs[@]}"; do wait "$job"; done
            sql 'PRAGMA wal_checkpoint(TRUNCATE)' >&2
            sql 'UPDATE entry SET bytes = zeroblob(500) WHERE id % 3 = 0; DELETE FROM entry WHERE id % 5 = 0; VACUUM'
            sql 'SELECT count(*), sum(length(bytes)) FROM entry; PRAGMA integrity_check'
            "#,
        );
        assert_eq!(
            found, "9600|3520000\nok\n",
            "12,000 rows less each fifth, each third of 500 bytes"
        );
    });
}

#[test]
fn sqlite_with_a_rollback_journal_rolls_back() {
    on_tmpfs_and_okapi("256M", |dir| {
        let found = bash(
            dir,
            r#"
            sqlite3 -batch -bail db "
                PRAGMA journal_mode=DELETE; PRAGMA cache_size=10; CREATE TABLE t (x);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
                INSERT INTO t SELECT randomblob(200) FROM n" >&2
            sqlite3 -batch -bail db 'PRAGMA cache_size=10; BEGIN; DELETE FROM t; ROLLBACK; SELECT count(*) FROM t; PRAGMA integrity_check'
            ls
            "#,
        );
        assert_eq!(found, "10000\nok\ndb\n");
    });
}
