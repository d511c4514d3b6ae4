//! What developers do on a drive: git, cargo, copying source trees about.

use super::{bash, on_tmpfs_and_okapi};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn git_commits_packs_clones_and_finds_no_damage() {
    on_tmpfs_and_okapi("1G", |dir| {
        bash(
            dir,
            r#"
            export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
            git init -q -b main origin
            cd origin
            for n in $(seq 150); do
                mkdir -p "dir$((n % 12))/deeper"
                echo "line $n" >>"dir$((n % 12))/deeper/file$((n % 30))"
                seq $n $((n + 400)) >"numbers$((n % 7))"
                git add -A
                git commit -q -m "commit $n"
                if ((n % 50 == 0)); then git gc -q; fi
            done
            git checkout -q -b side HEAD~20
            echo side >aside && git add aside && git commit -q -m side
            git rebase -q main
            git checkout -q main
            git merge -q --no-ff -m merge side
            test "$(git rev-list --count main)" = 152
            git gc -q --aggressive --prune=now
            git fsck --strict --no-progress
            git repack -q -a -d -F

            cd ..
            git clone -q "file://$PWD/origin" over-protocol
            git clone -q origin with-links
            for clone in over-protocol with-links; do
                git -C $clone fsck --strict --no-progress
                test -z "$(git -C $clone status --porcelain)"
                diff -r --exclude=.git origin $clone
            done
            git -C with-links worktree add -q ../worktree HEAD~10
            test -z "$(git -C worktree status --porcelain)"
            echo changed >>with-links/numbers1
            test "$(git -C with-links status --porcelain)" = " M numbers1"
            git -C with-links stash -q
            test -z "$(git -C with-links status --porcelain)"
            rm -rf origin with-links worktree over-protocol
            test -z "$(ls -A)"
            "#,
        );
    });
}

#[test]
fn cargo_builds_and_tests_a_crate_inside() {
    on_tmpfs_and_okapi("2G", |dir| {
        let printed = bash(
            dir,
            r#"
            mkdir -p crate/src
            cd crate
            # A workspace of its own, whatever lies above the mount.
            printf '[package]\nname = "inside"\nedition = "2024"\n[workspace]\n' >Cargo.toml
            cat >build.rs <<'END'
            fn main() {
                let out = std::env::var("OUT_DIR").unwrap();
                std::fs::write(std::path::Path::new(&out).join("made.rs"), "pub const MADE: u32 = 42;").unwrap();
            }
END
            cat >src/main.rs <<'END'
            include!(concat!(env!("OUT_DIR"), "/made.rs"));
            fn main() { println!("made {MADE}"); }
            #[test] fn made() { assert_eq!(MADE, 42); }
END
            cargo build -q --offline
            cargo test -q --offline >&2
            touch src/main.rs
            cargo build -q --release --offline
            cargo run -q --offline
            "#,
        );
        assert_eq!(printed, "made 42\n");
    });
}

#[test]
fn a_real_tree_survives_cp_and_diff() {
    let crates = dependency_sources();
    on_tmpfs_and_okapi("1G", |dir| {
        std::fs::create_dir(dir.join("a")).expect("an empty drive takes a directory");
        for source in &crates {
            bash(
                dir,
                &format!(
                    "cp -a '{0}' a/; diff -r --no-dereference '{0}' \"a/$(basename '{0}')\"",
                    source.display()
                ),
            );
        }
        bash(
            dir,
            "cp -a a b; diff -r --no-dereference a b
            mv a c; diff -r --no-dereference b c
            test $(find c -type f | wc -l) -gt 500
            rm -rf b c; test -z \"$(ls -A)\"",
        );
    });
}

/// The unpacked sources of the crates that okapi is built from.
fn dependency_sources() -> Vec<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["metadata", "--locked", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().expect("cargo ran this test");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    packages
        .iter()
        .filter(|package| package["source"].is_string())
        .filter_map(|package| {
            Path::new(package["manifest_path"].as_str()?)
                .parent()
                .map(Path::to_owned)
        })
        .collect()
}
