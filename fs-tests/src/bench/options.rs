//! Arguments that the benchmarks have in common.

/// The number of `option`, from 1 on.
///
/// # Errors
/// Says so where the word is none.
pub fn number(option: &str, word: Option<String>) -> Result<usize, String> {
    let word = word.unwrap_or_default();
    let number = word.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{option} takes a number from 1 on, not '{word}'"))
}

/// The names of a list with commas between them, each one of `known`; `what` is what they name.
///
/// # Errors
/// The first that is not known, and those that are.
pub fn names(what: &str, known: &[&str], list: Option<String>) -> Result<Vec<String>, String> {
    let list = list.unwrap_or_default();
    list.split(',')
        .map(|name| known_name(what, known, name.trim()))
        .collect()
}

/// A name that is one of `known`.
///
/// # Errors
/// That it is not, and those that are.
pub fn known_name(what: &str, known: &[&str], name: &str) -> Result<String, String> {
    match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "no {what} is called '{name}': there are {}",
            known.join(", ")
        )),
    }
}
