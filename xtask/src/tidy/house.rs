//! Rules for the workspace as a whole: imports, the map, documents, names, dependencies.

use super::{Finding, Tree};
use std::collections::{BTreeMap, BTreeSet};

const DRAWERS: [&str; 8] =
    ["util", "utils", "common", "misc", "helper", "helpers", "stuff", "shared"];

/// Everything that breaks a rule of the house.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |path: &str, line: usize, rule: &'static str, message: String| {
        findings.push(Finding { path: path.into(), line, rule, message });
    };
    let members = members(tree);
    imports(tree, &members, &mut find);
    map(tree, &members, &mut find);
    documents(tree, &mut find);
    names(tree, &mut find);
    dependencies(tree, &members, &mut find);
    findings
}

type Find<'a> = dyn FnMut(&str, usize, &'static str, String) + 'a;

/// The members of the workspace, in the order of the root manifest.
fn members(tree: &Tree) -> Vec<String> {
    let manifest: toml::Table = tree.text("Cargo.toml").parse().unwrap_or_default();
    let members = manifest.get("workspace").and_then(|w| w.get("members"));
    let members = members.and_then(toml::Value::as_array).cloned().unwrap_or_default();
    members.iter().filter_map(|m| m.as_str().map(str::to_owned)).collect()
}

/// The crates of the house that `member` imports (tests may import more).
fn imported(tree: &Tree, member: &str) -> BTreeSet<String> {
    let text = tree.text(&format!("{member}/Cargo.toml"));
    let manifest: toml::Table = text.parse().unwrap_or_default();
    let table = manifest.get("dependencies").and_then(toml::Value::as_table);
    let names = table.into_iter().flat_map(toml::Table::keys);
    names.filter_map(|n| n.strip_prefix("quipu-").map(str::to_owned)).collect()
}

/// The import table of ARCHITECTURE.md: crate → line and what it may import; "all" is everything.
fn import_table(text: &str) -> BTreeMap<String, (usize, Option<BTreeSet<String>>)> {
    let mut table = BTreeMap::new();
    let mut inside = false;
    for (i, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            inside = false;
        } else if cells.len() == 3 && cells[1] == "imports" {
            inside = true;
        } else if inside && let [name] = coded(cells[0])[..] {
            let may = coded(cells[1]).iter().map(|n| (*n).to_owned()).collect();
            table.insert(name.to_owned(), (i + 1, (cells[1] != "all").then_some(may)));
        }
    }
    table
}

/// The words between backticks.
fn coded(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn imports(tree: &Tree, members: &[String], find: &mut Find) {
    const DOCUMENT: &str = "ARCHITECTURE.md";
    let table = import_table(tree.text(DOCUMENT));
    for member in members {
        let Some((line, allowed)) = table.get(member) else {
            find(DOCUMENT, 1, "imports", format!("the import table lacks {member}"));
            continue;
        };
        let Some(allowed) = allowed else { continue };
        let actual = imported(tree, member);
        for extra in actual.difference(allowed) {
            let path = format!("{member}/Cargo.toml");
            find(
                &path,
                1,
                "imports",
                format!("{member} imports {extra}; the table has no such edge"),
            );
        }
        for unused in allowed.difference(&actual) {
            let message = format!("{member} does not import {unused}, as the table says");
            find(DOCUMENT, *line, "imports", message);
        }
    }
    for (name, (line, _)) in &table {
        if !members.contains(name) {
            find(
                DOCUMENT,
                *line,
                "imports",
                format!("the import table names {name}, no such crate"),
            );
        }
    }
}

/// The map in README.md: lines like `├── world/   …` in one code block.
fn map(tree: &Tree, members: &[String], find: &mut Find) {
    let mut on_map = BTreeSet::new();
    for (i, line) in tree.text("README.md").lines().enumerate() {
        let Some(rest) = line.strip_prefix("├── ").or(line.strip_prefix("└── ")) else {
            continue;
        };
        let name = rest.split_whitespace().next().unwrap_or_default();
        if !tree.has(name) {
            find("README.md", i + 1, "map", format!("the map names {name}, which does not exist"));
        }
        on_map.insert(name.trim_end_matches('/').to_owned());
    }
    for member in members {
        if !on_map.contains(member) {
            find("README.md", 1, "map", format!("the map lacks {member}"));
        }
        let heading = format!("### `{member}`");
        if !tree.text("ARCHITECTURE.md").lines().any(|l| l.starts_with(&heading)) {
            find("ARCHITECTURE.md", 1, "map", format!("there is no section {heading}"));
        }
    }
}

/// Paths that documents name must exist: links, and code words that look like a path of the tree.
fn documents(tree: &Tree, find: &mut Find) {
    for (document, text) in tree.texts.iter().filter(|(p, _)| p.ends_with(".md")) {
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (i, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                let words = coded(line).into_iter().filter(|w| names_a_path(tree, w));
                for path in words.chain(links(line)) {
                    let beside = format!("{folder}/{path}");
                    if !tree.has(path) && !tree.has(beside.trim_start_matches('/')) {
                        find(document, i + 1, "paths", format!("{path} does not exist"));
                    }
                }
            }
        }
    }
}

/// Whether a code word claims to be a path of this tree: its first part is a folder of it, or it
/// is a document at the root. `runs/…`, `DIR/…` and the like are not of the tree.
fn names_a_path(tree: &Tree, word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !word.chars().all(plain) || word.starts_with("..") {
        return false;
    }
    match word.trim_start_matches("./").split_once('/') {
        Some((first, rest)) => !rest.is_empty() && !first.is_empty() && tree.has(first),
        None => word.ends_with(".md"),
    }
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let outside = |t: &&str| t.contains("://") || t.starts_with('#') || t.starts_with("mailto:");
    targets.filter(move |t| !outside(t)).map(|t| t.split('#').next().unwrap_or(t))
}

fn names(tree: &Tree, find: &mut Find) {
    for path in tree.paths.iter().filter(|p| p.ends_with(".rs") || p.ends_with("Cargo.toml")) {
        let mut parts = path.split('/').map(|part| part.trim_end_matches(".rs"));
        if let Some(drawer) = parts.find(|part| DRAWERS.contains(part)) {
            find(
                path,
                1,
                "drawers",
                format!("{drawer:?} says nothing: name it after what it does"),
            );
        }
    }
}

fn dependencies(tree: &Tree, members: &[String], find: &mut Find) {
    const ROOT: &str = "Cargo.toml";
    let (mut inside, mut reason) = (false, false);
    for (i, line) in tree.text(ROOT).lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if inside && line.contains('=') {
            let name = line.split('=').next().unwrap_or_default().trim();
            if !name.starts_with("quipu-") && !reason {
                find(ROOT, i + 1, "reasons", format!("{name} has no line of reason above it"));
            }
        }
        reason = line.starts_with('#');
    }
    for member in members {
        let path = format!("{member}/Cargo.toml");
        let manifest: toml::Table = tree.text(&path).parse().unwrap_or_default();
        for (table, folders) in [
            ("dependencies", &["src/"][..]),
            ("dev-dependencies", &["src/", "tests/", "benches/", "examples/"][..]),
        ] {
            let Some(table) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
            for (name, value) in table {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    let message = format!("{name} does not come from the root manifest");
                    find(&path, 1, "reasons", message);
                }
                if !is_used(tree, member, folders, name) {
                    find(&path, 1, "unused", format!("no source of {member} uses {name}"));
                }
            }
        }
    }
}

fn is_used(tree: &Tree, member: &str, folders: &[&str], dependency: &str) -> bool {
    let word = dependency.replace('-', "_");
    let starts: Vec<String> = folders.iter().map(|f| format!("{member}/{f}")).collect();
    tree.texts
        .iter()
        .filter(|(path, _)| starts.iter().any(|s| path.starts_with(s)))
        .any(|(_, text)| text.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace]\nmembers = [\"a\", \"b\"]\n[workspace.dependencies]\n\
        quipu-b = { path = \"b\" }\n# numbers\nnum = \"1\"\n";
    const A: &str = "[dependencies]\nquipu-b.workspace = true\nnum.workspace = true\n";
    const TABLE: &str = "| crate | imports | must not know |\n| --- | --- | --- |\n\
        | `a` | `b` | x |\n| `b` | – | y |\n\n### `a`\n### `b`\n";
    const MAP: &str = "```\n├── a/   first\n└── b/   second\n```\n";

    /// The sound tree with some files replaced or added.
    fn check_rules(changes: &[(&str, &str)], expected: &[&str]) {
        let mut files = vec![
            ("Cargo.toml", ROOT),
            ("a/Cargo.toml", A),
            ("a/src/lib.rs", "//! A.\nuse {quipu_b as _, num as _};\n"),
            ("b/Cargo.toml", ""),
            ("b/src/lib.rs", "//! B.\n"),
            ("ARCHITECTURE.md", TABLE),
            ("README.md", MAP),
        ];
        files.retain(|(path, _)| changes.iter().all(|(p, _)| p != path));
        files.extend(changes);
        let findings = check(&Tree::of(&files));
        let rules: Vec<&str> = findings.iter().map(|f| f.rule).collect();
        assert_eq!(rules, expected, "{findings:#?}");
    }

    #[test]
    fn a_sound_tree_has_no_findings() {
        check_rules(&[], &[]);
    }

    #[test]
    fn the_import_table_is_the_manifests() {
        check_rules(&[("ARCHITECTURE.md", &TABLE.replace("| `b` | x", "| – | x"))], &["imports"]);
        check_rules(&[("ARCHITECTURE.md", &TABLE.replace("| – | y", "| `a` | y"))], &["imports"]);
        check_rules(
            &[("ARCHITECTURE.md", &TABLE.replace("| `b` | – ", "| `c` | – "))],
            &["imports"; 2],
        );
        check_rules(&[("ARCHITECTURE.md", &TABLE.replace("| `b` | x", "| all | x"))], &[]);
    }

    #[test]
    fn the_map_is_the_tree() {
        check_rules(&[("README.md", &MAP.replace("└── b/", "└── c/"))], &["map", "map"]);
        check_rules(&[("ARCHITECTURE.md", &TABLE.replace("### `b`", ""))], &["map"]);
    }

    #[test]
    fn named_paths_exist() {
        let with = |line: &str| format!("{MAP}{line}\n");
        check_rules(&[("README.md", &with("see `a/src/lib.rs`, [b](b/src) and `runs/x/y`"))], &[]);
        check_rules(&[("README.md", &with("see `a/src/gone.rs`"))], &["paths"]);
        check_rules(&[("README.md", &with("see `STYLE.md`"))], &["paths"]);
        check_rules(
            &[("README.md", &with("see [that](b/gone) and [this](https://x.org)"))],
            &["paths"],
        );
        check_rules(&[("README.md", &with("```\n`a/src/gone.rs`\n```"))], &[]);
    }

    #[test]
    fn drawers_reasons_and_unused() {
        check_rules(&[("a/src/utils.rs", "//! U.\n")], &["drawers"]);
        check_rules(&[("Cargo.toml", &ROOT.replace("# numbers\n", ""))], &["reasons"]);
        check_rules(
            &[("a/Cargo.toml", &A.replace("num.workspace = true", "num = \"1\""))],
            &["reasons"],
        );
        check_rules(&[("a/src/lib.rs", "//! A.\nuse quipu_b as _;\n")], &["unused"]);
    }
}
