//! A filesystem inside a file of the drive, and the drive's own unmounting.

use super::{bash, on_tmpfs_and_okapi};

#[test]
fn an_ext4_image_on_a_loop_device_stays_whole_and_gives_memory_back() {
    on_tmpfs_and_okapi("1G", |dir| {
        bash(
            dir,
            r#"
            truncate -s 300M image
            mkfs.ext4 -q image
            mkdir inside
            trap 'umount -q inside || true' EXIT
            mount -o loop image inside
            mkdir inside/tree
            for n in $(seq 500); do seq $n $((n * 9)) >inside/tree/file$n; done
            head -c 60000000 /dev/urandom >inside/large
            cp -a inside/tree plain
            sha256sum <inside/large >sum
            umount inside
            e2fsck -f -n image

            mount -o loop image inside
            diff -r plain inside/tree
            sha256sum <inside/large | cmp - sum
            before=$(du -k image | cut -f 1)
            rm inside/large
            sync -f inside
            fstrim inside
            umount inside
            e2fsck -f -n image
            after=$(du -k image | cut -f 1)
            echo "image: $before KiB, $after KiB after the trim"
            test $((before - after)) -gt 50000
            "#,
        );
    });
}
