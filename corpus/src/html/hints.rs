//! What the names that authors give to their boxes (`class`, `id`, `role`, `itemprop`) say about
//! them: navigation, footer, cookie notice, article body. A hint is never a verdict; it is one
//! input of the block score (`score.rs`). English words only, because names in markup are English
//! nearly everywhere, also on pages in other languages.

use std::collections::HashMap;
use std::sync::OnceLock;

/// A set of hints.
pub type Hints = u32;

/// Menus, breadcrumbs, tabs.
pub const NAV: Hints = 1;
/// Page footers, legal lines.
pub const FOOT: Hints = 1 << 1;
/// Mastheads, top bars, banners.
pub const HEAD: Hints = 1 << 2;
/// Side columns.
pub const SIDE: Hints = 1 << 3;
/// Consent notices.
pub const COOKIE: Hints = 1 << 4;
/// Share and follow bars.
pub const SHARE: Hints = 1 << 5;
/// Related, recommended, popular, "more from".
pub const RELATED: Hints = 1 << 6;
/// Reader comments.
pub const COMMENT: Hints = 1 << 7;
/// Advertisements, sponsors, promotions.
pub const AD: Hints = 1 << 8;
/// Newsletter boxes, calls to subscribe, paywalls.
pub const SIGNUP: Hints = 1 << 9;
/// Dialogues, overlays, popups.
pub const MODAL: Hints = 1 << 10;
/// Bylines, dates, meta lines.
pub const BYLINE: Hints = 1 << 11;
/// Text that is not shown, or only to screen readers.
pub const UNSEEN: Hints = 1 << 12;
/// Pagination, previous and next.
pub const PAGER: Hints = 1 << 13;
/// Search boxes, filters, sorting.
pub const SEARCH: Hints = 1 << 14;
/// Tags and categories.
pub const TAGS: Hints = 1 << 15;
/// Widgets, toolbars, buttons, actions.
pub const TOOL: Hints = 1 << 16;
/// Boxes about the author.
pub const AUTHOR: Hints = 1 << 17;
/// Carts, buying, logging in.
pub const BUY: Hints = 1 << 18;
/// Body, text, content, description.
pub const BODY: Hints = 1 << 19;
/// Article, post, entry, story.
pub const ARTICLE: Hints = 1 << 20;
/// Main, primary.
pub const MAIN: Hints = 1 << 21;
/// Products and their properties.
pub const PRODUCT: Hints = 1 << 22;
/// Threads, messages, replies, answers.
pub const FORUM: Hints = 1 << 23;
/// Results, grids, cards, items.
pub const LIST: Hints = 1 << 24;
/// Captions, galleries, credits.
pub const MEDIA: Hints = 1 << 25;
/// Tables of contents.
pub const CONTENTS: Hints = 1 << 26;
/// Titles and headlines.
pub const TITLE: Hints = 1 << 27;
/// Signatures and user panels of forums.
pub const USER: Hints = 1 << 28;
/// Summaries, teasers, leads.
pub const LEAD: Hints = 1 << 29;

/// How many hints there are.
pub const COUNT: usize = 30;

const WORDS: &[(Hints, &str)] = &[
    (
        NAV,
        "nav navbar navigation navi menu menus submenu megamenu breadcrumb breadcrumbs crumb \
         crumbs tabs tab tablist offcanvas drawer hamburger sitemap skip skiplink dropdown topnav \
         subnav mainnav sidenav navlinks quicklinks menuitem navigational toctree",
    ),
    (
        FOOT,
        "footer foot bottom copyright legal colophon disclaimer impressum siteinfo contentinfo \
         footnav pagefooter subfooter imprint",
    ),
    (
        HEAD,
        "header masthead topbar top banner hero logo branding brand toolbar pageheader siteheader \
         jumbotron",
    ),
    (
        SIDE,
        "sidebar side aside rail rightrail leftrail sidecol sidecolumn column2 complementary \
         secondary rightcolumn leftcolumn rightcol leftcol",
    ),
    (
        COOKIE,
        "cookie cookies consent gdpr ccpa privacy onetrust cookiebar cookiebanner cmp didomi \
         truste",
    ),
    (
        SHARE,
        "share sharing shares social socials sociallinks addthis addtoany sharethis sharedaddy \
         facebook twitter pinterest whatsapp linkedin follow shareaholic socialmedia sharebar \
         bookmark print email",
    ),
    (
        RELATED,
        "related recommended recommend recommendation recommendations similar popular trending \
         mostread mostpopular outbrain taboola zergnet more readmore morefrom next readnext \
         upnext also alsolike suggested suggestions latest recent recently yarpp jp \
         relatedposts relatedarticles otherposts upsell crosssell crosssells teaser teasers \
         promoted seealso discover recirculation recirc youmaylike",
    ),
    (
        COMMENT,
        "comment comments commentlist commentary disqus respond replies discussion livefyre \
         guestbook feedback commentary commentform commentarea",
    ),
    (
        AD,
        "ad ads adv advert adverts advertisement advertising advertise sponsor sponsored sponsors \
         promo promos promotion promotional adsense adslot adbox dfp gpt billboard leaderboard \
         affiliate commercial",
    ),
    (
        SIGNUP,
        "newsletter subscribe subscription subscriptions subscriber signup optin mailchimp \
         mailing paywall paid register registration regwall donate donation membership cta \
         callout leadgen",
    ),
    (
        MODAL,
        "modal popup popover overlay lightbox dialog tooltip rollover hovercard toast alert notice notification \
             notifications snackbar interstitial flyout",
    ),
    (
        BYLINE,
        "byline author meta metadata postmeta entrymeta date time timestamp published updated \
         dateline pubdate info posted credit credits views viewcount readtime readingtime \
         articlemeta infobar",
    ),
    (
        UNSEEN,
        "hidden hide invisible sr sronly visuallyhidden screenreader screenreadertext noprint \
         noscript offscreen clip assistive nodisplay",
    ),
    (
        PAGER,
        "pagination pager paging paginate pagenav prevnext previous prev pages pagenavi \
         loadmore postnav nextprev backtotop scrolltop totop",
    ),
    (
        SEARCH,
        "search searchbox searchform filter filters facet facets facetedsearch sort sorting \
         refine refinement sortby autocomplete typeahead",
    ),
    (
        TAGS,
        "tag tags tagcloud taglist category categories cat cats topics keywords label labels \
         taxonomy postedin catlinks",
    ),
    (
        TOOL,
        "widget widgets tool tools button buttons btn btns action actions control controls icon \
         icons vote votes voting rating ratings like likes reactions options settings edit \
         editsection feedbacks helpful report print permalink anchor badge badges counter weather \
         poll language languages lang locale switcher slick swiper carousel slider",
    ),
    (AUTHOR, "bio biography authorbox authorbio authorinfo aboutauthor vcard profile avatar"),
    (
        BUY,
        "cart basket checkout buy addtocart wishlist purchase login signin logon account \
         loginform minicart shipping delivery stock quantity qty",
    ),
    (
        BODY,
        "body content contents text txt copy richtext prose maintext contentbody bodytext \
         description desc details detail wysiwyg markdown rte fulltext textblock paragraph \
         bodycontent articlebody postbody postcontent entrycontent articlecontent storybody \
         articletext posttext pagecontent innercontent rst docbody document doccontent",
    ),
    (
        ARTICLE,
        "article articles post posts entry story hentry blog blogpost news newsarticle \
               articlebody storybody postbody blogposting newsitem",
    ),
    (
        MAIN,
        "main primary maincontent maincol maincolumn maincontainer contentmain center \
            centercol page",
    ),
    (
        PRODUCT,
        "product products pdp spec specs specification specifications feature features price \
         pricing productinfo productdescription variant attributes sku ingredients overview \
         benefits faq faqs accordion",
    ),
    (
        FORUM,
        "thread threads message messages msg topic reply answer answers question questions \
         forum messagebody postmessage bbwrapper conversation qa",
    ),
    (
        LIST,
        "list listing listings results result grid card cards item items collection collections \
         gallery tile tiles feed archive loop catalog catalogue row",
    ),
    (
        MEDIA,
        "caption figcaption figure image images photo photos picture gallery video videos \
             media player slideshow thumbnail thumb embed wpcaption",
    ),
    (CONTENTS, "toc tableofcontents onthispage pagetoc outline localtoc anchors jump"),
    (TITLE, "title headline heading headlines subtitle subheadline subhead heading1"),
    (
        USER,
        "signature sig user username userinfo member memberinfo userdetails poster usertitle \
         postauthor userextras postprofile joined",
    ),
    (LEAD, "lead lede summary intro excerpt standfirst abstract dek kicker deck blurb snippet"),
];

fn table() -> &'static HashMap<&'static [u8], Hints> {
    static TABLE: OnceLock<HashMap<&'static [u8], Hints>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = HashMap::new();
        for (hint, words) in WORDS {
            for word in words.split_ascii_whitespace() {
                *table.entry(word.as_bytes()).or_insert(0) |= hint;
            }
        }
        table
    })
}

/// The hints of a value of `class` or `id`: each name is looked up whole (without separators) and
/// in its words (`post-meta`, `postMeta`, `post_meta`).
pub fn of_names(value: &str) -> Hints {
    let table = table();
    let mut hints = 0;
    for name in value.split_ascii_whitespace() {
        if name.len() <= 48 {
            hints |= of_name(table, name.as_bytes());
        }
    }
    hints
}

fn of_name(table: &HashMap<&'static [u8], Hints>, name: &[u8]) -> Hints {
    let mut whole = [0u8; 48];
    let (mut len, mut start, mut hints, mut words) = (0, 0, 0, 0);
    let mut lower_before = false;
    for &b in name {
        let letter = b.is_ascii_alphabetic();
        let boundary = !letter || (b.is_ascii_uppercase() && lower_before);
        if boundary && len > start {
            hints |= table.get(&whole[start..len]).copied().unwrap_or(0);
            words += 1;
            start = len;
        }
        if letter {
            whole[len] = b.to_ascii_lowercase();
            len += 1;
        }
        lower_before = b.is_ascii_lowercase();
    }
    if len > start {
        hints |= table.get(&whole[start..len]).copied().unwrap_or(0);
    }
    if words > 0 {
        hints |= table.get(&whole[..len]).copied().unwrap_or(0);
    }
    hints
}

/// Whether the names are those of a box that shows while the pointer is on a word: the inner one,
/// as the outer one often holds the word itself (`tooltip`, and in it `tooltip-text`).
pub fn is_hover(value: &str) -> bool {
    value.split_ascii_whitespace().filter(|name| name.len() <= 48).any(|name| {
        let name = name.to_ascii_lowercase();
        ["tooltip", "rollover", "popover", "hovercard"].iter().any(|shown| name.contains(shown))
            && ["text", "content", "block", "body", "inner"].iter().any(|end| name.ends_with(end))
    })
}

/// The hints of a `role`.
pub fn of_role(role: &str) -> Hints {
    match role {
        "navigation" | "menu" | "menubar" | "menuitem" | "tablist" | "tab" | "listbox"
        | "directory" => NAV,
        "contentinfo" => FOOT,
        "banner" => HEAD,
        "complementary" => SIDE,
        "dialog" | "alertdialog" | "alert" | "tooltip" => MODAL,
        "search" | "searchbox" | "combobox" => SEARCH,
        "button" | "toolbar" | "status" | "progressbar" => TOOL,
        "main" => MAIN,
        "article" => ARTICLE,
        _ => 0,
    }
}

/// The hints of an `itemprop` (schema.org).
pub fn of_itemprop(property: &str) -> Hints {
    match property {
        "articleBody" | "text" | "description" | "reviewBody" | "mainContentOfPage" => BODY,
        "headline" | "name" => TITLE,
        "author" | "datePublished" | "dateModified" | "publisher" => BYLINE,
        "comment" => COMMENT,
        "breadcrumb" => NAV,
        "keywords" => TAGS,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &str, expected: Hints) {
        assert_eq!(of_names(names), expected, "{names}");
    }

    #[test]
    fn names_are_split_into_words() {
        check("site-footer", FOOT);
        check("siteFooter x1", FOOT);
        check("post_meta", ARTICLE | BYLINE);
        check("navbar", NAV);
        check("read-more", RELATED);
        check("zz9", 0);
        check("", 0);
        check(&"very-long-name-".repeat(9), 0);
    }

    #[test]
    fn boxes_shown_while_pointed_at_are_told() {
        assert!(is_hover("rollover-people-block") && is_hover("x tooltipText"));
        assert!(!is_hover("tooltip") && !is_hover("text-block"));
    }

    #[test]
    fn joined_names_are_known() {
        check("table-of-contents", CONTENTS | BODY);
        check("mainContent", MAIN | BODY);
        check("sr-only", UNSEEN);
    }
}
