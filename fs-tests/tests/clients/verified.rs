//! fio: every block is read back and its checksum compared, by system calls, mappings and asynchronous requests.

use super::{bash, on_tmpfs_and_okapi};

#[test]
fn fio_reads_back_what_it_wrote_by_every_engine() {
    on_tmpfs_and_okapi("256M", |dir| {
        bash(
            dir,
            r#"
            verify() {
                fio --name=verify --filename=file --ioengine="$1" --direct="$2" --rw="$3" --bs="$4" \
                    --size=4M --iodepth=8 --fallocate=none --verify=crc32c --verify_fatal=1 --verify_backlog=50 \
                    --verify_dump=0 --minimal >report || { cat report; return 1; }
                rm file
            }
            for rw in write randwrite randrw; do
                for bs in 4k 1M; do
                    verify mmap 0 "$rw" "$bs"
                    for direct in 0 1; do
                        verify psync "$direct" "$rw" "$bs"
                        verify libaio "$direct" "$rw" "$bs"
                    done
                done
            done
            # several at once on one file, each on a part of its own
            fio --name=shared --filename=shared --ioengine=libaio --iodepth=16 --direct=1 --rw=randwrite --bs=4k \
                --size=4M --offset_increment=4M --numjobs=4 --verify=crc32c --verify_fatal=1 --verify_dump=0 \
                --fallocate=none --group_reporting --minimal >report || { cat report; false; }
            "#,
        );
    });
}
