//! Forms in which pages write mathematics and code (`forms/NAME.html`, written after real pages),
//! each with the text that must come of it (`NAME.txt`): formulas in their source and once, code
//! with its white space and without the numbers and buttons beside it. Each form stands between two
//! paragraphs of an article and goes the whole way, the block score with it.

use std::path::Path;

use super::extract;

const BEFORE: &str = "The mill stood on the river for three hundred years, and every family in the \
    valley brought its grain there, whatever the weather was.";
const AFTER: &str = "When the railway came, the miller sold his stones to a museum; the wheel, \
    which nobody wanted, still turns when the water is high enough.";

fn page(form: &str) -> String {
    format!(
        "<!doctype html><html lang=en><head><title>The mill | Notes</title></head><body>\
         <header><nav><ul><li><a href=/>Home</a><li><a href=/n>Notes</a></ul></nav></header>\
         <main><article><h1>The mill</h1><p>{BEFORE}</p>\n{form}\n<p>{AFTER}</p></article></main>\
         <footer>© 2020 Notes <a href=/p>Privacy</a></footer></body></html>"
    )
}

#[test]
fn every_form_gives_its_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/html/forms");
    let (mut count, mut wrong) = (0, Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of forms")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|e| e == "html"))
        .collect();
    files.sort();
    for path in files {
        let form = std::fs::read_to_string(&path).expect("a form");
        let text = std::fs::read_to_string(path.with_extension("txt")).expect("its text");
        let found = extract(&page(&form), None).text;
        let expected = format!("{BEFORE}\n\n{}\n\n{AFTER}", text.trim_end());
        if !found.contains(&expected) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            wrong.push(format!("{name}\n--- expected\n{expected}\n--- found\n{found}\n"));
        }
        count += 1;
    }
    assert!(count >= 40, "only {count} forms were read");
    assert!(wrong.is_empty(), "{} of {count} forms:\n{}", wrong.len(), wrong.join("\n"));
}
