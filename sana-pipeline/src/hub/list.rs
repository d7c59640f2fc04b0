//! The list of a repository's files, as a server gives it.

use serde_json::Value;

use super::cache::{Files, is_commit};

/// Commit and files of a server's answer.
pub(super) fn read_list(list: &Value) -> Result<(String, Files), String> {
    let commit = list.get("sha").and_then(Value::as_str).unwrap_or_default();
    if !is_commit(commit) {
        return Err(format!("its commit is {commit:?}"));
    }
    let entries = list.get("siblings").and_then(Value::as_array);
    let mut files = Files::new();
    for entry in entries.ok_or("it has no list of files")? {
        let name = entry.get("rfilename").and_then(Value::as_str);
        let name = name.ok_or("a file has no name")?;
        if !is_inside(name) {
            return Err(format!(
                "a file has the name {name:?}, which leaves the folder"
            ));
        }
        files.insert(name.to_owned(), entry.get("size").and_then(Value::as_u64));
    }
    Ok((commit.to_owned(), files))
}

/// Whether a path with `/` between its parts stays inside a folder, on every system.
fn is_inside(name: &str) -> bool {
    let part = |part: &str| {
        let plain = |c: char| !c.is_control() && !['\\', ':'].contains(&c);
        !["", ".", ".."].contains(&part) && part.chars().all(plain)
    };
    name.len() <= 1000 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_not_trusted() {
        let commit = "0".repeat(40);
        let list = |name: &str| {
            let files = json!([{"rfilename": name, "size": 3}, {"rfilename": "b"}]);
            read_list(&json!({"sha": commit, "siblings": files}))
        };
        let (found, files) = list("a/c.json").unwrap();
        assert_eq!(found, commit);
        assert_eq!(files["a/c.json"], Some(3));
        assert_eq!(files["b"], None);
        for wrong in [
            "",
            "..",
            "../a",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            r"a\b",
            "C:/a",
            "a\0",
            "./a",
        ] {
            let reason = list(wrong).unwrap_err();
            assert!(reason.contains("leaves the folder"), "{wrong}: {reason}");
        }
        for wrong in [
            json!([]),
            json!({"siblings": []}),
            json!({"sha": "../../..", "siblings": []}),
            json!({"sha": commit}),
            json!({"sha": commit, "siblings": [{"name": "a"}]}),
        ] {
            assert!(read_list(&wrong).is_err(), "{wrong}");
        }
    }
}
