//! What a page says of itself in its head and in JSON-LD: title, kind of page, language. Claims,
//! not facts: they enter the block score as features.

use super::features::PageSigns;
use super::names::{Attr, Tag};
use super::tree::{NONE, NodeId, Tree};

/// Claims of a page.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// `og:title`, else the `title` element.
    pub title: Option<String>,
    /// `og:description` or `description`.
    pub description: Option<String>,
    /// `lang` of the `html` element, lower case.
    pub language: Option<String>,
    /// The text of the article as JSON-LD (`articleBody`) holds it, the longest.
    pub body: Option<String>,
    /// Kind of page.
    pub signs: PageSigns,
}

/// Reads the claims of a page.
pub fn read(tree: &Tree) -> Claims {
    let mut claims = Claims::default();
    let mut title = None;
    for id in 0..tree.nodes.len() as NodeId {
        match tree.node(id).tag {
            Tag::HTML => {
                let language = tree.attr(id, Attr::Lang).map(|v| v.trim().to_ascii_lowercase());
                claims.language = language.filter(|v| !v.is_empty()).or(claims.language);
            }
            Tag::META => meta(tree, id, &mut claims),
            Tag::TITLE if title.is_none() && tree.node(id).first != NONE => {
                title = Some(folded(tree.text(tree.node(id).first)));
            }
            Tag::SCRIPT => json_ld(tree, id, &mut claims),
            _ => {}
        }
    }
    claims.title = claims.title.or(title).filter(|t| !t.is_empty());
    claims
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn meta(tree: &Tree, id: NodeId, claims: &mut Claims) {
    let name = tree.attr(id, Attr::Property).or_else(|| tree.attr(id, Attr::Name));
    let (Some(name), Some(content)) = (name, tree.attr(id, Attr::Content)) else { return };
    match name {
        "og:title" if claims.title.is_none() => claims.title = Some(folded(content)),
        "og:type" => {
            claims.signs.article |= content.eq_ignore_ascii_case("article");
            claims.signs.product |=
                content.starts_with("product") || content.contains("og:product");
        }
        "og:description" | "description" | "twitter:description"
            if claims.description.as_ref().is_none_or(|d| d.len() < content.len()) =>
        {
            claims.description = Some(folded(content));
        }
        name if name.starts_with("article:published") => claims.signs.article = true,
        name if name.starts_with("product:price") => claims.signs.product = true,
        _ => {}
    }
}

/// Looks for the types that matter in a JSON-LD script, without parsing it.
fn json_ld(tree: &Tree, id: NodeId, claims: &mut Claims) {
    let signs = &mut claims.signs;
    let is_ld = tree.attr(id, Attr::Type).is_some_and(|t| t.contains("ld+json"));
    if !is_ld || tree.node(id).first == NONE {
        return;
    }
    let text = tree.text(tree.node(id).first);
    let has = |name: &str| text.contains(name);
    signs.article |= has("Article\"") || has("BlogPosting\"") || has("articleBody");
    signs.product |= has("\"Product\"");
    signs.forum |= has("\"DiscussionForumPosting\"") || has("\"QAPage\"");
    let mut rest = text;
    while let Some(at) = rest.find("\"articleBody\"") {
        rest = rest[at + "\"articleBody\"".len()..].trim_start();
        let value = rest.strip_prefix(':').map(str::trim_start).and_then(|r| r.strip_prefix('"'));
        let Some(value) = value else { continue };
        let body = unescaped(value);
        if claims.body.as_ref().is_none_or(|longest| longest.len() < body.len()) {
            claims.body = Some(body);
        }
    }
}

/// A JSON string up to its end, from behind its first quote; what is broken in it stays as it is.
fn unescaped(value: &str) -> String {
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n' | 'r' | 't' | 'b' | 'f') => out.push(' '),
                Some('u') => {
                    let hex: String = chars.clone().take(4).collect();
                    let code = u32::from_str_radix(&hex, 16).ok();
                    chars = chars.as_str().get(hex.len()..).unwrap_or("").chars();
                    // halves of a pair are no letters of a word that matters here
                    out.push(code.and_then(char::from_u32).unwrap_or(' '));
                }
                Some(other) => out.push(other),
                None => {}
            },
            _ => out.push(c),
        }
    }
    out
}
