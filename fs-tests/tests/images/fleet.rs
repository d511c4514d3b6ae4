//! `okapi image clone BASE --subnet …`: fleets as users make them, judged by the tools of the filesystems.

use std::fs;
use std::path::Path;
use std::process::Command;

use fs_tests::harness::{Drive, binary, run};
use serde_json::Value;

use crate::disks::{Mounted, Workshop, assert_ext_is_clean, assert_fat_is_clean, ext_file, fat_file};
use crate::support::{drive, drive_with, fails, image, listing, path, pattern};

const TEMPLATE: &str =
    "IP={ip}\nNET={prefix} {netmask} {gateway}\nDNS={dns}\nHOST={host} {n}\nMAC={mac}\nID={machine_id}\n";

/// A block of settings with tokens in it, padded as a guest's image has it.
fn settings() -> Vec<u8> {
    let mut block = b"IP=@@OKAPI_ADDRESS@@\nHOST=@@OKAPI_HOST@@\n".to_vec();
    block.resize(4096, b'\n');
    block
}

/// Puts a disk among the images, holes kept.
fn put(drive: &Drive, disk: &Path, name: &str) {
    let mut copy = Command::new("cp");
    run(copy.arg("--sparse=always").arg(disk).arg(path(drive, name)));
}

/// A drive with a base of 64 MiB, and a template for its file.
fn ext4_base(shop: &Workshop) -> (Drive, String) {
    let drive = drive();
    let files: &[(&str, &[u8])] = &[
        ("etc/okapi/net", &settings()),
        ("lib/large", &pattern(1, 20 << 20)),
    ];
    put(&drive, &shop.ext("64M", &["-t", "ext4"], files), "base");
    let template = format!("etc/okapi/net={}", shop.text("net.tmpl", TEMPLATE));
    (drive, template)
}

/// Runs `okapi image clone base` with these options and `--json`.
fn clone(drive: &Drive, options: &[&str]) -> Value {
    let arguments = [&["clone", "base", "--json"], options].concat();
    serde_json::from_str(&image(drive, &arguments)).unwrap()
}

/// Made, kept, pruned and outside.
fn counts(report: &Value) -> [u64; 4] {
    let len = |key: &str| report[key].as_array().unwrap().len() as u64;
    [
        report["made"].as_u64().unwrap(),
        report["kept"].as_u64().unwrap(),
        len("pruned"),
        len("outside"),
    ]
}

/// Memory that an image has for itself.
fn private_bytes(drive: &Drive, name: &str) -> u64 {
    let mut du = Command::new(binary());
    let output = run(du.args(["du", "--json"]).arg(path(drive, name)));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["total"]["private_bytes"].as_u64().unwrap()
}

#[track_caller]
fn assert_nothing_was_made(drive: &Drive) {
    assert_eq!(listing(drive), ["base"]);
    drive.check();
}

#[test]
fn a_fleet_has_254_members_of_one_dirty_block_each() {
    let shop = Workshop::new();
    let (drive, template) = ext4_base(&shop);
    let before = drive.stat();
    let options = [
        "--subnet",
        "10.0.0.0/24",
        "--gateway",
        "10.0.0.254",
        "--dns",
        "1.1.1.1,8.8.8.8",
        "--host",
        "vm-{n}",
        "--template",
        &template,
    ];
    let report = clone(&drive, &options);
    assert_eq!(counts(&report), [253, 0, 0, 0], "the gateway gets none");
    assert_eq!(report["members"][76]["ip"], "10.0.0.77");
    let held = |stat: &Value| stat["held_bytes"].as_u64().unwrap();
    assert_eq!(held(&drive.stat()) - held(&before), 253 * 4096, "one block each");
    for n in [1, 77, 253] {
        let name = format!("vm-{n}");
        assert_eq!(private_bytes(&drive, &name), 4096);
        let disk = path(&drive, &name);
        assert_ext_is_clean(&disk);
        let text = String::from_utf8(ext_file(&disk, "/etc/okapi/net")).unwrap();
        assert_eq!(text.len(), 4096, "the file keeps its length");
        let member = &report["members"][n - 1];
        let expected = format!(
            "IP=10.0.0.{n}\nNET=24 255.255.255.0 10.0.0.254\nDNS=1.1.1.1,8.8.8.8\nHOST=vm-{n} {n}\nMAC=02:00:0a:00:00:{n:02x}\nID={}",
            member["machine_id"].as_str().unwrap()
        );
        assert_eq!(text.trim_end_matches('\n'), expected);
    }
    let mounted = Mounted::new(&path(&drive, "vm-9"), "ro,noload");
    let text = fs::read_to_string(mounted.path().join("etc/okapi/net")).unwrap();
    assert!(text.starts_with("IP=10.0.0.9\n"));
    drop(mounted);
    drive.check();
}

#[test]
fn tokens_are_replaced_and_padded_with_blanks() {
    let shop = Workshop::new();
    let (drive, _) = ext4_base(&shop);
    clone(
        &drive,
        &[
            "--subnet",
            "192.168.100.0/24",
            "--range",
            ".9-.11",
            "--patch",
            "@@OKAPI_ADDRESS@@={ip}",
            "--patch",
            "@@OKAPI_HOST@@={host}",
        ],
    );
    assert_eq!(listing(&drive), ["base", "base-10", "base-11", "base-9"]);
    for n in [9, 10, 11] {
        let disk = path(&drive, &format!("base-{n}"));
        let text = String::from_utf8(ext_file(&disk, "/etc/okapi/net")).unwrap();
        let ip = format!("192.168.100.{n}");
        let host = format!("base-{n}");
        assert!(
            text.starts_with(&format!("IP={ip:17}\nHOST={host:14}\n\n")),
            "{text:?}"
        );
        assert_eq!(private_bytes(&drive, &host), 4096, "both are in one block");
        assert_ext_is_clean(&disk);
    }
}

#[test]
fn texts_are_put_at_offsets() {
    let drive = drive();
    fs::write(path(&drive, "base"), vec![b'.'; 3 << 20]).unwrap();
    clone(
        &drive,
        &[
            "--subnet",
            "2001:db8::/64",
            "--range",
            "::9-::10",
            "--host",
            "h{n}",
            "--patch-at",
            "0x10={ip}",
            "--patch-at",
            "1M+20={mac}",
            "--patch-at",
            "2097148+8={host}",
        ],
    );
    let read = |name: &str, at: usize, len: usize| {
        String::from_utf8(fs::read(path(&drive, name)).unwrap()[at..at + len].to_vec()).unwrap()
    };
    assert_eq!(listing(&drive).len(), 9);
    assert_eq!(read("h9", 15, 14), ".2001:db8::9..");
    assert_eq!(read("h16", 15, 14), ".2001:db8::10.");
    let mac = read("h9", (1 << 20) - 1, 22);
    assert!(mac.starts_with(".06:") && mac.ends_with(":00:09   ."), "{mac}");
    assert_eq!(read("h9", 2_097_147, 10), ".h9      .");
}

#[test]
fn a_base_of_fat_in_a_partition_is_burned() {
    let shop = Workshop::new();
    let drive = drive();
    let settings = settings();
    let files: &[(&str, &[u8])] = &[("EFI/okapi/network settings.cfg", &settings)];
    let fat = shop.fat(16 << 10, &[], files);
    let table = "label: gpt\nstart=2048,size=32768,type=uefi\n";
    put(&drive, &shop.partitioned(20, table, &[(1 << 20, &fat)]), "base");
    let template = format!("efi/OKAPI/network settings.cfg={}", shop.text("t", "{ip}"));
    clone(&drive, &["--subnet", "10.9.0.0/30", "--template", &template]);
    for n in [1, 2] {
        let name = format!("base-{n}");
        assert_eq!(private_bytes(&drive, &name), 4096);
        let part = shop.path("part");
        fs::write(&part, &fs::read(path(&drive, &name)).unwrap()[1 << 20..17 << 20]).unwrap();
        assert_fat_is_clean(&part);
        let text = fat_file(&part, "EFI/okapi/network settings.cfg");
        assert_eq!(text.len(), 4096);
        assert_eq!(String::from_utf8(text).unwrap().trim_end(), format!("10.9.0.{n}"));
    }
}

#[test]
fn seed_disks_are_what_cloud_init_reads() {
    let shop = Workshop::new();
    let drive = drive();
    fs::write(path(&drive, "base"), "bytes").unwrap();
    let user_data = shop.text(
        "user-data",
        "#cloud-config\nfqdn: {host}.example\nruncmd: [\"echo ${HOME}\"]\n",
    );
    let options = [
        "--subnet",
        "10.0.0.0/24",
        "--gateway",
        "10.0.0.1",
        "--dns",
        "1.1.1.1,2001:db8::53",
        "--seed",
        "nocloud",
    ];
    let report = clone(&drive, &[&options[..], &["--range", ".2-.5"]].concat());
    assert_eq!((counts(&report), &report["seeds"]), ([4, 0, 0, 0], &4.into()));
    let seed = path(&drive, "base-3-seed.img");
    assert_fat_is_clean(&seed);
    assert_eq!(fat_file(&seed, "user-data"), b"#cloud-config\n");
    let text = |name: &str| String::from_utf8(fat_file(&seed, name)).unwrap();
    let id = report["members"][1]["machine_id"].as_str().unwrap();
    assert_eq!(
        text("meta-data").trim_end(),
        format!("instance-id: \"{id}\"\nlocal-hostname: \"base-3\"")
    );
    let network = "version: 2\nethernets:\n  card0:\n    match:\n      macaddress: \"02:00:0a:00:00:03\"\n    addresses:\n      - \"10.0.0.3/24\"\n    \
        routes:\n      - to: \"0.0.0.0/0\"\n        via: \"10.0.0.1\"\n    \
        nameservers:\n      addresses:\n        - \"1.1.1.1\"\n        - \"2001:db8::53\"";
    assert_eq!(text("network-config").trim_end(), network);
    assert_eq!(
        private_bytes(&drive, "base-3-seed.img"),
        4096,
        "one block is its own"
    );
    let label = run(Command::new("blkid")
        .args(["-o", "value", "-s", "LABEL"])
        .arg(&seed))
    .stdout;
    assert_eq!(label, b"CIDATA\n");

    // The same fleet with other user data is another one, member by member.
    let other = ["--range", ".2-.6", "--user-data", &user_data];
    let arguments = [&["clone", "base"], &options[..], &other].concat();
    fails(&drive, &arguments, 1, &["`base-2-seed.img`", "in use", "hint"]);
    for name in listing(&drive) {
        if name.ends_with("-seed.img") {
            fs::remove_file(path(&drive, &name)).unwrap();
        }
    }
    let report = clone(&drive, &[&options[..], &other].concat());
    assert_eq!((counts(&report), &report["seeds"]), ([1, 4, 0, 0], &5.into()));
    assert_fat_is_clean(&seed);
    assert!(
        text("user-data").starts_with("#cloud-config\nfqdn: base-3.example\nruncmd: [\"echo ${HOME}\"]\n")
    );
    drive.check();
}

#[test]
fn a_fleet_grows_and_shrinks_and_its_members_stay_as_they_are() {
    let shop = Workshop::new();
    let (drive, template) = ext4_base(&shop);
    let fleet = |range: &str, more: &[&str]| {
        let options = [
            "--subnet",
            "10.0.0.0/24",
            "--template",
            &template,
            "--range",
            range,
        ];
        let fixed = ["--gateway", "10.0.0.1", "--dns", "1.1.1.1", "--seed", "nocloud"];
        clone(&drive, &[&options[..], &fixed, more].concat())
    };
    assert_eq!(counts(&fleet(".1-.20", &[])), [19, 0, 0, 0]);
    assert_eq!(counts(&fleet(".1-.20", &[])), [0, 19, 0, 0]);
    // A guest has written to its disk, and another disk is gone.
    let guest = path(&drive, "base-7");
    fs::write(&guest, "a guest's").unwrap();
    fs::remove_file(path(&drive, "base-9")).unwrap();
    assert_eq!(counts(&fleet(".2-.22", &[])), [3, 18, 0, 0]);
    assert_eq!(fs::read(&guest).unwrap(), b"a guest's");
    assert_eq!(
        counts(&fleet(".7-.22", &[])),
        [0, 16, 0, 5],
        "those outside are told"
    );
    assert_eq!(listing(&drive).len(), 1 + 2 * 21);
    fs::write(path(&drive, "stranger-seed.img"), "stays").unwrap();
    assert_eq!(counts(&fleet(".7-.22", &["--prune"])), [0, 16, 5, 0]);
    assert_eq!(listing(&drive).len(), 2 + 2 * 16);
    assert!(!path(&drive, "base-2").exists() && !path(&drive, "base-2-seed.img").exists());
    drive.check();
}

#[test]
fn images_with_other_names_are_never_pruned() {
    let drive = drive();
    fs::write(path(&drive, "base"), pattern(1, 1 << 20)).unwrap();
    let fleet = |range: &str, host: &str, more: &[&str]| {
        let options = ["--subnet", "10.0.0.0/24", "--range", range, "--host", host];
        counts(&clone(
            &drive,
            &[&options[..], &["--patch-at", "0={ip}"], more].concat(),
        ))
    };
    assert_eq!(fleet(".1-.5", "web-{n}", &[]), [5, 0, 0, 0]);
    assert_eq!(
        fleet(".6-.9", "db-{n}", &["--prune"]),
        [4, 0, 0, 0],
        "two fleets share the subnet"
    );
    let mut copy = Command::new("cp");
    run(copy
        .arg("-a")
        .arg(path(&drive, "web-5"))
        .arg(path(&drive, "precious")));
    let mut copy = Command::new("cp");
    run(copy
        .arg("-a")
        .arg(path(&drive, "web-2"))
        .arg(path(&drive, "a-copy")));
    assert_eq!(
        fleet(".1-.5", "web-{n}", &[]),
        [0, 5, 0, 0],
        "copies of members are not in the way"
    );
    assert_eq!(fleet(".1-.3", "web-{n}", &["--prune"]), [0, 3, 2, 0]);
    let left = [
        "a-copy", "base", "db-6", "db-7", "db-8", "db-9", "precious", "web-1", "web-2", "web-3",
    ];
    assert_eq!(listing(&drive), left);
    // Without the member itself, whoever has its address is in the way.
    let arguments = ["clone", "base", "--subnet", "10.0.0.0/24", "--range", ".1-.5"];
    let options = ["--host", "web-{n}", "--patch-at", "0={ip}"];
    fails(
        &drive,
        &[&arguments[..], &options].concat(),
        1,
        &["10.0.0.5", "`precious`", "hint"],
    );
    assert_eq!(listing(&drive), left);
    drive.check();
}

#[test]
fn a_name_or_an_address_in_use_makes_nothing() {
    let shop = Workshop::new();
    let (drive, template) = ext4_base(&shop);
    let arguments = |host| {
        let fixed = [
            "clone",
            "base",
            "--subnet",
            "10.0.0.0/24",
            "--template",
            &template,
        ];
        let more = ["--gateway", "10.0.0.1", "--dns", "1.1.1.1", "--host", host];
        [&fixed[..], &more].concat()
    };
    fs::write(path(&drive, "vm-200"), "mine").unwrap();
    fails(&drive, &arguments("vm-{n}"), 1, &["`vm-200`", "in use", "hint"]);
    assert_eq!(listing(&drive), ["base", "vm-200"]);
    fs::remove_file(path(&drive, "vm-200")).unwrap();
    fs::create_dir(path(&drive, "vm-200")).unwrap();
    fails(&drive, &arguments("vm-{n}"), 1, &["`vm-200`", "already", "hint"]);
    assert_eq!(
        listing(&drive),
        ["base", "vm-200"],
        "those that were made are removed"
    );
    fs::remove_dir(path(&drive, "vm-200")).unwrap();
    image(&drive, &[&arguments("vm-{n}")[..], &["--range", ".9"]].concat());
    fails(&drive, &arguments("node-{n}"), 1, &["10.0.0.9", "`vm-9`", "hint"]);
    let other = shop.text("other.tmpl", "{ip}");
    let other = format!("etc/okapi/net={other}");
    let arguments = [
        "clone",
        "base",
        "--subnet",
        "10.0.0.0/24",
        "--host",
        "vm-{n}",
        "--template",
        &other,
    ];
    fails(&drive, &arguments, 1, &["`vm-9`", "in use", "10.0.0.9"]);
    assert_eq!(listing(&drive), ["base", "vm-9"]);
    drive.check();
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_made() {
    let shop = Workshop::new();
    let (drive, _) = ext4_base(&shop);
    let refused = |options: &[&str], words: &[&str]| {
        let fixed = ["clone", "base", "--subnet", "10.0.0.0/24"];
        fails(&drive, &[&fixed[..], options].concat(), 1, words);
        fails(&drive, &[&fixed[..], options, &["--dry-run"]].concat(), 1, words);
    };
    let long = format!(
        "etc/okapi/net={}",
        shop.text("long", &("x".repeat(4090) + "{ip}"))
    );
    refused(
        &["--template", &long],
        &["base-1", "4098 bytes", "room for 4096", "hint"],
    );
    refused(
        &["--patch", "@@OKAPI_HOST@@=a-long-name-{host}"],
        &["@@OKAPI_HOST@@", "room for 14", "base-1", "hint"],
    );
    refused(
        &["--patch", "@@NOBODY@@={ip}"],
        &["@@NOBODY@@", "not in the base", "hint"],
    );
    refused(&["--patch", "\n\n\n\n\n\n\n\n={ip}"], &["more than once", "hint"]);
    refused(&["--patch", "@@={ip}"], &["`@@`", "no token", "hint"]);
    refused(&["--patch-at", "64M={ip}"], &["behind the end", "hint"]);
    refused(&["--patch-at", "0+4={ip}"], &["room for 4", "hint"]);
    refused(&["--patch-at", "0={ipp}"], &["{ipp}", "no placeholder", "hint"]);
    refused(&["--patch-at", "0={gateway}"], &["--gateway", "hint"]);
    refused(&["--range", ".9-.300"], &["`.300`", "hint"]);
    refused(&["--host", "vm"], &["two members", "{n}", "hint"]);
    let nowhere = format!("no/such={}", shop.text("short", "{ip}"));
    refused(&["--template", &nowhere], &["no/such", "hint"]);
    refused(&["--template", "etc/okapi/net=/no/such/file"], &["/no/such/file"]);
    fails(
        &drive,
        &["clone", "base", "--subnet", "10.0.0.0/8"],
        1,
        &["65536", "--range", "hint"],
    );
    refused(
        &["--patch-at", "8192+9={ip}", "--patch-at", "8200+9={ip}"],
        &["byte 8192", "byte 8200", "same place", "hint"],
    );
    let user_data = shop.text("user-data", "{ipp}");
    refused(
        &["--seed", "nocloud", "--user-data", &user_data],
        &["{ipp}", "no placeholder", "hint"],
    );
    refused(
        &["--gateway", "10.0.0.255"],
        &["10.0.0.255", "no host's address", "hint"],
    );
    for usage in [
        &["--template", "etc/okapi/net"][..],
        &["--patch", "=x"],
        &["--patch-at", "x={ip}"],
        &["name"],
        &["--user-data", "x"],
        &["--seed", "nobody"],
    ] {
        let fixed = ["clone", "base", "--subnet", "10.0.0.0/24"];
        fails(&drive, &[&fixed[..], usage].concat(), 2, &[]);
    }
    fails(
        &drive,
        &["clone", "base", "name", "--range", ".1"],
        2,
        &["--range"],
    );
    assert_nothing_was_made(&drive);
}

#[test]
fn a_base_that_cannot_be_burned_is_refused() {
    let shop = Workshop::new();
    let drive = drive();
    let files: &[(&str, &[u8])] = &[("etc/net", b"IP=@@OKAPI_ADDRESS@@")];
    let disk = shop.ext("16M", &["-t", "ext4", "-O", "inline_data"], files);
    put(&drive, &disk, "base");
    let template = format!("etc/net={}", shop.text("t", "{ip}"));
    let refused = |words: &[&str]| {
        for burn in [["--template", &template], ["--patch", "@@OKAPI_ADDRESS@@={ip}"]] {
            let fixed = ["clone", "base", "--subnet", "10.0.0.0/24"];
            fails(&drive, &[&fixed[..], &burn].concat(), 1, words);
        }
        assert_nothing_was_made(&drive);
    };
    refused(&["inline data", "4096", "hint"]);
    let padded = settings();
    let disk = shop.ext("16M", &["-t", "ext4"], &[("etc/net", &padded)]);
    {
        let mounted = Mounted::new(&disk, "rw");
        fs::write(mounted.path().join("x"), "x").unwrap();
        run(&mut Command::new("sync"));
        put(&drive, &disk, "base");
    }
    refused(&["journal", "e2fsck -p", "hint"]);
    run(Command::new("e2fsck").arg("-p").arg(path(&drive, "base")));
    clone(&drive, &["--subnet", "10.0.0.0/30", "--template", &template]);
    assert_ext_is_clean(&path(&drive, "base-1"));
}

#[test]
fn a_fleet_that_does_not_fit_in_the_drive_leaves_nothing() {
    let drive = drive_with(&["--size", "4M", "--dedup", "off"]);
    fs::write(path(&drive, "base"), pattern(1, 1 << 20)).unwrap();
    let fixed = ["clone", "base", "--patch-at", "0={ip}"];
    let some = [&fixed[..], &["--subnet", "10.0.0.0/22"]].concat();
    fails(&drive, &some, 1, &["made none", "no space left"]);
    assert_nothing_was_made(&drive);
    let many = [&fixed[..], &["--subnet", "10.0.0.0/16"]].concat();
    fails(&drive, &many, 1, &["more files", "65534", "--range", "hint"]);
    assert_nothing_was_made(&drive);
    clone(&drive, &["--subnet", "10.0.0.0/28", "--patch-at", "0={ip}"]);
}

#[test]
fn a_dry_run_shows_names_and_addresses() {
    let shop = Workshop::new();
    let (drive, template) = ext4_base(&shop);
    let fixed = [
        "clone",
        "base",
        "--subnet",
        "2001:DB8:1::/64",
        "--range",
        "::a-::b",
        "--dry-run",
    ];
    let burns = ["--gateway", "fe80::1", "--dns", "::1", "--template", &template];
    let lines = image(&drive, &[&fixed[..], &burns].concat());
    let lines: Vec<Vec<&str>> = lines
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0][0], lines[0][2]), ("base-10", "2001:db8:1::a"));
    assert_eq!((lines[1][0], lines[1][2]), ("base-11", "2001:db8:1::b"));
    assert_nothing_was_made(&drive);
    clone(&drive, &[&fixed[2..6], &burns].concat());
    let text = ext_file(&path(&drive, "base-11"), "/etc/okapi/net");
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.starts_with(
            "IP=2001:db8:1::b\nNET=64 ffff:ffff:ffff:ffff:: fe80::1\nDNS=::1\nHOST=base-11 11\n"
        ),
        "{text}"
    );
    let summary = image(&drive, &[&fixed[..6], &burns].concat());
    assert!(
        summary.contains("0 images made") && summary.contains("2 there already"),
        "{summary}"
    );
}
