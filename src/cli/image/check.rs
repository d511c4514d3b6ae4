//! `okapi image check`.

use crate::cli::outcome::{Failure, Outcome, print};
use crate::error::ErrorKind;
use crate::serve::control::Client;

pub(super) fn run(client: &mut Client, names: &[String]) -> Outcome {
    let report = client.check_images(names)?;
    let images = match report.images {
        1 => "1 image".into(),
        several => format!("{several} images"),
    };
    if report.findings.is_empty() {
        return print(format!("{images}: sound\n"));
    }
    let lines = report.findings.iter();
    print(
        lines
            .map(|(image, text)| format!("{image}: {text}\n"))
            .collect::<String>(),
    )?;
    let findings = match report.findings.len() {
        1 => "1 finding".into(),
        several => format!("{several} findings"),
    };
    Err(Failure::failed(
        ErrorKind::Corrupt,
        format!("{findings} in {images}"),
    ))
}
