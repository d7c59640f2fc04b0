//! How words are compared.

/// The words of a text in small letters, commas apart.
pub(super) fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace(',', " , ");
    text.split_whitespace().map(str::to_owned).collect()
}
