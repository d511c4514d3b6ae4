//! `okapi image ls`.

use std::fmt::Write;

use crate::cli::outcome::{Outcome, json, print};
use crate::cli::size::human;
use crate::serve::control::{Client, ImageReply};

pub(super) fn run(client: &mut Client, as_json: bool) -> Outcome {
    let images = client.images()?;
    print(match as_json {
        true => json(&images)?,
        false => table(&images),
    })
}

/// The address stands before the names, which may have spaces.
fn table(images: &[ImageReply]) -> String {
    let width = |of: fn(&ImageReply) -> &str, least: usize| {
        let lens = images.iter().map(|image| of(image).chars().count());
        lens.max().unwrap_or(0).max(least)
    };
    let (ip_width, name_width) = (width(ip, 2), width(|image| &image.name, 4));
    let mut text = format!(
        "{:>10} {:>10} {:>10}  {:ip_width$}  {:name_width$}  base\n",
        "size", "shared", "private", "ip", "name"
    );
    for image in images {
        let line = format!(
            "{:>10} {:>10} {:>10}  {:ip_width$}  {:name_width$}  {}",
            human(image.size_bytes),
            human(image.shared_bytes),
            human(image.private_bytes),
            ip(image),
            image.name,
            base(image),
        );
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn ip(image: &ImageReply) -> &str {
    image.ip.as_deref().unwrap_or("-")
}

fn base(image: &ImageReply) -> String {
    match &image.base {
        Some(base) if image.base_exists => base.clone(),
        Some(base) => format!("{base} (gone)"),
        None => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_stand_below_their_names() {
        let image = |name: &str, base: Option<&str>, base_exists| ImageReply {
            name: name.into(),
            base: base.map(str::to_owned),
            base_exists,
            ip: base.map(|_| "10.0.0.1".into()),
            fleet: None,
            size_bytes: 64 << 20,
            shared_bytes: 0,
            private_bytes: 4096,
        };
        let images = [
            image("base", None, false),
            image("vm-1", Some("base"), true),
            image("vm-two", Some("old"), false),
        ];
        assert_eq!(
            table(&images),
            "      size     shared    private  ip        name    base\n  \
             64.0 MiB        0 B      4 KiB  -         base    -\n  \
             64.0 MiB        0 B      4 KiB  10.0.0.1  vm-1    base\n  \
             64.0 MiB        0 B      4 KiB  10.0.0.1  vm-two  old (gone)\n"
        );
        assert_eq!(table(&[]).lines().count(), 1);
    }
}
