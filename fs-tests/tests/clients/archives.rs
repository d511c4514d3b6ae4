//! rsync and tar: everything that a file is, out and back again.

use super::{bash, on_tmpfs_and_okapi};
use std::path::Path;

/// Makes `tree` with all that an archive has to keep: kinds of files, modes, owners, times, hard links, extended
/// attributes, ACLs, holes, and names that need care.
const MAKE_TREE: &str = r#"
    mkdir -p tree/sub/deep tree/empty "tree/name with spaces"
    for n in $(seq 200); do seq $n $((n * 7)) >tree/sub/file$n; done
    head -c 3000000 /dev/urandom >tree/random
    printf 'odd\n' >"tree/name with spaces/"$'line\nbreak \xff\xfe'
    ln tree/sub/file1 tree/link1; ln tree/sub/file1 tree/sub/deep/link2
    ln -s ../random tree/sub/link; ln -s /nonexistent tree/dangling
    mkfifo tree/fifo; mknod tree/null c 1 3; mknod tree/block b 7 99
    truncate -s 64M tree/sparse
    printf head | dd of=tree/sparse conv=notrunc status=none
    head -c 100000 /dev/urandom | dd of=tree/sparse bs=1M seek=40 conv=notrunc status=none
    chmod 4755 tree/sub/file2; chmod 2750 tree/sub/deep; chmod 1777 tree/empty; chmod 000 tree/sub/file3
    chown 1:2 tree/sub/file4; chown -h 3:4 tree/dangling; chown 5:6 tree/empty
    setfattr -n user.note -v 'some text' tree/sub/file5
    setfattr -n user.binary -v 0x000102ff tree/sub
    setfattr -n trusted.secret -v hidden tree/sub/file6
    setfacl -m u:7:rw,g:8:r tree/sub/file7
    setfacl -d -m u:9:rwx tree/sub/deep
    find tree -exec touch -h -d '2015-05-05 05:05:05.555555555' {} +
    touch -h -d '2001-02-03 04:05:06.789012345' tree/sub/link tree/sub/file8
    touch -d '1969-01-02 03:04:05' tree/sub/file9
    touch -d '2100-01-01 00:00:00' tree/sub/file10
    touch -d '2010-10-10 10:10:10.101010101' tree/sub/deep tree/sub tree
"#;

/// Prints everything about the tree $1 that two equal trees have in common, hard links by their groups.
const MANIFEST: &str = r#"
    manifest() (
        cd "$1"
        find . -mindepth 1 ! -type d -printf '%P\0%y %m %U:%G %n %T@ %s %l\0\n'
        find . -type d -printf '%P\0%y %m %U:%G %T@\0\n'
        find . -type f -links +1 -printf '%i\0%P\n' | sort -z | awk -F '\0' '{ print "linked", $2 }' | sort
        find . -type f -exec sha256sum {} +
        find . -mindepth 1 ! -type l -exec getfattr -h -d -m - {} + 2>/dev/null || true
        find . ! -type l -exec getfacl -n -P {} +
    )
    # Whatever order the directories give.
    same() { diff -a <(manifest "$1" | sort) <(manifest "$2" | sort); }
    # Memory that a file takes, in KiB.
    held() { du -k "$1" | cut -f 1; }
"#;

#[test]
fn rsync_there_and_back_changes_nothing_and_its_second_run_has_nothing_to_do() {
    on_tmpfs_and_okapi("512M", |dir| {
        on_tree(
            dir,
            r#"
            rsync -aHAXS --checksum tree/ there/
            same tree there
            test "$(held there/sparse)" -lt 1000
            rsync -aHAXS --checksum there/ back/
            same tree back
            test -z "$(rsync -aHAXS --checksum --delete --itemize-changes tree/ there/)"
            test -z "$(rsync -aHAXS --delete --itemize-changes back/ tree/)"

            # An update moves what has changed, and nothing else.
            echo more >>tree/sub/file20; rm tree/sub/file21; chmod 640 tree/sub/file22
            touch -d '2016-06-06 06:06:06' tree/sub
            rsync -aHAXS --delete --itemize-changes tree/ there/ | sort >changes
            test "$(grep -c . changes)" = 4
            same tree there
            "#,
        );
    });
}

#[test]
fn tar_brings_back_attributes_lists_and_holes() {
    on_tmpfs_and_okapi("512M", |dir| {
        on_tree(
            dir,
            r#"
            options=(--format=posix --xattrs --xattrs-include='*' --acls --sparse --numeric-owner)
            tar -c "${options[@]}" -f tree.tar tree
            test "$(held tree.tar)" -lt 20000
            mkdir out
            tar -x "${options[@]}" --preserve-permissions --same-owner -f tree.tar -C out
            same tree out/tree
            test "$(held out/tree/sparse)" -lt 1000
            tar -d "${options[@]}" -f tree.tar
            "#,
        );
    });
}

#[test]
fn cp_keeps_everything_and_holes() {
    on_tmpfs_and_okapi("512M", |dir| {
        on_tree(
            dir,
            r#"
            cp -a tree copy
            same tree copy
            test "$(held copy/sparse)" -lt 1000
            cp --sparse=always --reflink=auto copy/sparse again
            cmp again tree/sparse
            test "$(held again)" -lt 1000
            "#,
        );
    });
}

/// Runs a script on a fresh `tree`, with `same` and `held` defined. Owners and device nodes need root.
fn on_tree(dir: &Path, script: &str) {
    bash(dir, &format!("{MAKE_TREE}{MANIFEST}{script}"));
}
