//! A group's rows as CSV (RFC 4180).

use serde_json::Value;

use super::rows::{Group, Row};

/// A header line and one line a row, with all digits.
pub(super) fn text(group: &Group) -> String {
    let columns = group.columns();
    let mut text = columns.join(",") + "\r\n";
    for row in &group.rows {
        let fields: Vec<String> = columns.iter().map(|column| field(row, column)).collect();
        text += &fields.join(",");
        text += "\r\n";
    }
    text
}

fn field(row: &Row, column: &str) -> String {
    let value = match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    match value.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::Rows;
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must() {
        let mut rows = Rows::default();
        rows.read(r#"{"bench":"a","subject":"x, \"y\"","value":1.5}"#).unwrap();
        assert_eq!(text(&rows.groups()[0]), "subject,value\r\n\"x, \"\"y\"\"\",1.5\r\n");
    }
}
