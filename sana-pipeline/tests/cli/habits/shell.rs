//! `sana completions` and `sana man`.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::Workplace;

/// What a shell prints, where it is installed.
fn said(shell: &str, script: &str) -> Option<String> {
    let output = Command::new(shell).args(["-c", script]).output().ok()?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shell}: {error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn shells_complete() {
    let here = Workplace::new();
    for (shell, part) in [
        ("bash", "complete -F _sana"),
        ("zsh", "#compdef sana"),
        ("fish", "complete -c sana"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = here.sana(&["completions", shell]).quiet_success();
        assert!(script.contains(part), "{shell}");
        // As it is, not escaped.
        assert!(!script.contains("\\u{"), "{shell}");
        fs::write(here.path(shell), script).unwrap();
    }
    let file = |shell: &str| here.path(shell).display().to_string();
    let complete = format!(
        "source '{}'; COMP_WORDS=(sana gen); COMP_CWORD=1; _sana sana gen sana; \
         echo \"${{COMPREPLY[@]}}\"; COMP_WORDS=(sana generate --steps 3 --dty); COMP_CWORD=4; \
         _sana sana --dty 3; echo \"${{COMPREPLY[@]}}\"",
        file("bash")
    );
    if let Some(said) = said("bash", &complete) {
        assert_eq!(said, "generate\n--dtype\n");
    }
    said("zsh", &format!("zsh -n '{}'", file("zsh")));
    let complete = format!(
        "source '{}'; complete -C 'sana generate --dtype '",
        file("fish")
    );
    if let Some(said) = said("fish", &complete) {
        assert!(said.contains("bf16"), "{said}");
    }
    here.sana(&["completions", "tcsh"])
        .fails(2, &["possible values: bash"]);
}

#[test]
fn pages_of_the_manual() {
    let here = Workplace::new();
    let said = here.sana(&["man", "man/man1"]).quiet_success();
    let pages = here.files_in("man/man1");
    for page in [
        "sana.1",
        "sana-generate.1",
        "sana-train-autoencoder.1",
        "sana-config-show.1",
    ] {
        assert!(pages.contains(&page.to_owned()), "{page} in {pages:?}");
        assert!(said.contains(&format!("wrote man/man1/{page}\n")), "{said}");
    }
    let page = String::from_utf8(here.bytes("man/man1/sana-generate.1")).unwrap();
    assert!(page.starts_with(".ie") && page.contains(".TH "), "{page}");
    assert!(page.contains("\\-\\-hires\\-strength"), "{page}");
    // Every command that the help lists has a page.
    let help = here.sana(&["--help"]).quiet_success();
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        let page = format!("sana-{name}.1");
        assert!(name == "help" || pages.contains(&page), "{page}");
    }
    let groff = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww"])
        .arg(here.path("man/man1/sana-generate.1"))
        .stdin(Stdio::null())
        .output();
    if let Ok(groff) = groff {
        assert_eq!(String::from_utf8_lossy(&groff.stderr), "");
        let text = String::from_utf8_lossy(&groff.stdout);
        assert!(text.contains("Generate images from a prompt"), "{text}");
    }
    // Again, over what is there.
    here.sana(&["man", "man/man1"]).quiet_success();
    fs::write(here.path("file"), "").unwrap();
    here.sana(&["man", "file"])
        .fails(1, &["cannot create the folder file"]);
}
