//! Tests of the parser against html5ever, the HTML standard's tree construction in Rust: its tree,
//! converted into our arena, must give the same text as our own tree, on small cases (the whole
//! tree is compared) and on real pages (the extracted text is).

use html5ever::tendril::TendrilSink;
use html5ever::tree_builder::TreeBuilderOpts;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

use super::names::{Attr, Tag};
use super::tree::{NONE, NodeId, ROOT, Range, Space, Tree};
use super::{Budget, blocks, from_tree, parse};

/// html5ever's tree in our arena.
fn reference(html: &str) -> Tree<'static> {
    let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..Default::default() };
    let opts = ParseOpts { tree_builder, ..Default::default() };
    let dom: RcDom = parse_document(RcDom::default(), opts).one(html);
    let mut tree = Tree::new("");
    let mut stack: Vec<(Handle, NodeId)> = children(&dom.document, ROOT);
    while let Some((handle, parent)) = stack.pop() {
        let node = match &handle.data {
            NodeData::Text { contents } => {
                let range = tree.keep(&contents.borrow());
                tree.create(Tag::TEXT, Space::Html, range)
            }
            NodeData::Element { name, attrs, .. } => {
                let lower = name.local.to_ascii_lowercase();
                let at = tree.keep(&lower);
                let tag = tree.tag(lower.as_bytes(), at);
                let first = tree.attrs.len() as u32;
                for attr in attrs.borrow().iter() {
                    if let Some(known) = Attr::known(attr.name.local.as_bytes()) {
                        let value = tree.keep(&attr.value);
                        tree.attrs.push((known, value));
                    }
                }
                let space = match &*name.ns {
                    "http://www.w3.org/2000/svg" => Space::Svg,
                    "http://www.w3.org/1998/Math/MathML" => Space::Math,
                    _ => Space::Html,
                };
                let data = Range { start: first, len: tree.attrs.len() as u32 - first };
                tree.create(tag, space, data)
            }
            _ => continue,
        };
        tree.append(parent, node);
        stack.extend(children(&handle, node));
    }
    tree
}

fn children(handle: &Handle, node: NodeId) -> Vec<(Handle, NodeId)> {
    handle.children.borrow().iter().rev().map(|child| (child.clone(), node)).collect()
}

/// A tree as text: names with brackets, text with its adjacent pieces joined. NUL and what stands
/// for it are left out: the standard drops or replaces it by context, we drop it when rendering.
fn outline(tree: &Tree) -> String {
    let mut out = String::new();
    let mut at = tree.node(ROOT).first;
    while at != NONE {
        let node = tree.node(at);
        if node.tag == Tag::TEXT {
            let text = tree.text(at).replace("\r\n", "\n").replace('\r', "\n");
            out.push_str(&text);
        } else {
            let custom = tree.custom_name(node.tag).to_ascii_lowercase();
            let known = if custom.is_empty() { node.tag.0 } else { 0 };
            out.push_str(&format!("<{custom}{known}"));
            let attrs = tree.attrs_of(at);
            attrs.iter().for_each(|(n, v)| out.push_str(&format!(" {n:?}={}", tree.slice(*v))));
            out.push('>');
        }
        // the contents of a template are a fragment of their own in html5ever
        if node.first != NONE && node.tag != Tag::TEMPLATE {
            at = node.first;
            continue;
        }
        loop {
            if tree.node(at).tag != Tag::TEXT {
                out.push_str("</>");
            }
            let next = tree.node(at).next;
            if next != NONE {
                at = next;
                break;
            }
            at = tree.node(at).parent;
            if at == ROOT || at == NONE {
                return out.replace(['\0', '\u{fffd}'], "");
            }
        }
    }
    out
}

pub(super) fn check(html: &str) {
    let (ours, _) = parse(html, Budget::default());
    assert_eq!(outline(&ours), outline(&reference(html)), "{html}");
}

#[test]
fn implied_tags() {
    check("hello");
    check("<p>one<p>two<div>three<p>four</div>five");
    check("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>e");
    check("<dl><dt>a<dd>b<dt>c</dl>");
    check("<!DOCTYPE html><title>x</title><body class=a><body class=b id=c>y</html>z");
    check("<head><meta charset=utf-8></head> <p>x</p></body> tail <b>bold");
    check("<h1>a<h2>b</h1>c</h3>d");
    check("<p>a</p></p>b</br>c");
    check("<button>a<button>b</button>c");
    check("<select><option>a<option>b<optgroup label=x><option>c</select>d");
    check("<ruby>a<rt>b<rp>c</ruby>");
    check("<form><p>a<form>b</form>c</form>d");
    check("<html lang=en><html lang=de class=x><head></head>");
    check("</head><p>x");
    check("<p>a<address>b<article>c</p>d</article>");
}

#[test]
fn formatting_is_adopted() {
    check("<p>1<b>2<i>3</b>4</i>5</p>");
    check("<b>1<p>2</b>3</p>");
    check("<a href=x>1<div>2<a href=y>3</div>4");
    check("<b><b><b><b><p>x</b></b>y");
    check("<font color=red><p>a<p>b</font>c<p>d");
    check("<i>1<table><tr><td>2</i>3</td></tr></table>4");
    check("<nobr>1<nobr>2</nobr>3");
    check("<a>1<b>2<div>3<i>4<p>5</a>6</b>7</i>8");
    check("<em><strong><div>a</em>b</strong>c</div>d");
    check("<b>1<object>2</b>3</object>4");
    check("<u>a<u>b<u>c<u>d</p><p>e");
}

#[test]
fn tables() {
    check("<table><tr><td>a<td>b<tr><th>c</table>d");
    check("<table>x<tr>y<td>z</td>w</tr></table>");
    check("<table><div>a</div><caption>b<col><colgroup><col><tbody><tr><td>c</table>");
    check("<table><td>a<table><td>b</table>c</table>d");
    check("<p>a<table><tr><td>b</table>c");
    check("<!doctype html><p>a<table><tr><td>b</table>c");
    check("<table><form><tr><td><input type=hidden><input>x</form></table>y");
    check("<table><select><option>a<tr><td>b</table>");
    check("<table><tr><td><p>a</tr><tr><td>b</td></p></table>");
    check("<table><tbody></tbody></tr>a<tr></tbody><td>b</table>c");
    check("<table><colgroup>x<col></colgroup> <col>y</table>");
    check("<table><caption><b>x<tr><td>y</table>z");
    check("<table><a>1<p>2</a>3<tr><td>4</table>5");
    check("<table> <!-- c --> <script>a</script><style>b</style><tr></table>");
}

#[test]
fn raw_text() {
    check("<script>if (a<b) '</p>' <!-- <script> </script> --></script>x");
    check("<script><!-- a --></script>x<script><!--<script></script>y</script>z");
    check("<style>a>b{}</style><textarea>\n<p>&amp;</textarea><title>&lt;b></title>");
    check("<xmp><b></xmp><iframe><p>x</iframe><noembed><i></noembed><plaintext>a<b></plaintext>");
    check("<title>never closed <p>x");
    check("<script>never closed <p>x");
    check("<noscript><p>x<img></noscript><body><noscript><b>y</b></noscript>");
    check("<head><noscript><link><p>z</noscript>");
    check("<pre>\n\nx</pre><listing>\ny</listing>");
    check("<style>x</stylex></style y>z</STYLE>");
}

#[test]
fn tokens() {
    check("a<b <c>d</b e=f>g</ h>i<!-- j --!>k<!doctype>l<?pi?>m<![CDATA[n]]>o");
    check("<div class='a' class=b CLASS=c id = d title>x</div/>y");
    check("<div class=a\"b'c=d id='>'>x");
    check("<div =class=x id==y>z");
    check("<!--><p>a<!---><p>b<!-- -- > --><p>c<!-- unfinished <p>d");
    check("a < b <3 </3 <");
    check("x</");
    check("<p title='unfinished");
    check("&lt;&amp&notit;&#x41;&#65&#0;&#x80;&nosuch;&&#;");
    check("<a title='?a=1&copy=2&copy;&lt'>x");
    check("<x-card><x-card>a</x-card>b</x-card>c</no-such>d");
    check("<div\u{0}a>b\u{0}c</div\u{0}a>d");
    check("<p/>a<br/>b<div/>c");
}

#[test]
fn foreign_content() {
    check("<svg><title>a<p>b</title><p>c</svg>d");
    check("<svg><foreignObject><p>a</p></foreignObject><style><b>x</b></style></svg>e");
    check("<math><mi>x<p>y</mi><annotation-xml encoding=text/html><p>z</annotation-xml></math>");
    check("<math><mtext><b>a</b></mtext><mo/><mn>2</math>b");
    check("<svg><![CDATA[a<b]]><g/><circle>x</svg>");
    check("<math><annotation encoding='application/x-tex'>x^2</annotation></math>y");
    check("<svg><a>b</p>c</svg>d");
    check("<svg><font color=x>a</font><font>b</font></svg>");
    check("<svg><script>a<b>c</script>d</svg>");
}

#[test]
fn templates() {
    check("<template><td>a</template>b<table><template><tr></template><tr><td>c</table>");
    check("<head><template><p>x</template></head><body>y");
    check("<div><template></div></template>a</div>b");
}

/// The same extracted text on at least 99.5 % of all pages of the shared data.
#[test]
fn real_pages_read_as_html5ever_reads_them() {
    let name = "real_pages_read_as_html5ever_reads_them";
    let Some(sources) = super::gold::all_pages(name) else { return };
    let (mut same, mut count) = (0, 0);
    for (source, pages) in &sources {
        assert!(!pages.is_empty(), "no page of {source} was read");
        let mut different = Vec::new();
        for (id, html) in pages {
            let (ours, _) = parse(html, Budget::default());
            let theirs = reference(html);
            let equal = blocks::flatten(&ours).text == blocks::flatten(&theirs).text;
            if !equal && from_tree(&ours).text != from_tree(&theirs).text {
                different.push(id.as_str());
            }
        }
        println!("{source}: {} of {} differ: {different:?}", different.len(), pages.len());
        same += pages.len() - different.len();
        count += pages.len();
    }
    println!("same extracted text {same} of {count}");
    assert!(same * 1000 >= count * 995, "{same} of {count}");
}
