//! Dates as crawls and corpora write them, to milliseconds and back: RFC 3339 and what is near it,
//! the 14 digits of ARC files, HTTP's and mail's form, seconds and milliseconds since 1970.
//!
//! Not here: time zones by name other than UTC, calendars other than the proleptic Gregorian one,
//! leap seconds.

/// Years in which digits alone are a date and not seconds since 1970.
const YEARS: std::ops::RangeInclusive<i64> = 1980..=2100;
/// Milliseconds of the year 9999, which no date passes.
const LAST: i64 = 253_402_300_799_999;

/// Milliseconds since 1970 of `2024-05-18T01:58:10Z`, with fraction or offset, of a bare date, of
/// `20080430204825`, `Wed, 30 Apr 2008 20:48:25 GMT` or `1209588505`; `None` for anything else.
pub fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim();
    if !text.is_ascii() {
        return None;
    }
    let whole = text.split_once('.').map_or(text, |(whole, fraction)| {
        if fraction.bytes().all(|b| b.is_ascii_digit()) { whole } else { text }
    });
    if whole.len() >= 8 && whole.bytes().all(|b| b.is_ascii_digit()) {
        return digits(whole);
    }
    if text.as_bytes()[..text.len().min(4)].iter().any(u8::is_ascii_alphabetic) {
        return mail(text);
    }
    let bytes = text.as_bytes();
    let separated = |b: u8| matches!(b, b'-' | b'/');
    if bytes.len() < 10 || !separated(bytes[4]) || bytes[7] != bytes[4] {
        return mail(text);
    }
    let day = days(number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?)?;
    if bytes.len() == 10 {
        return Some(day * 86_400_000);
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') || bytes.len() < 16 || bytes[13] != b':' {
        return None;
    }
    let (hour, minute) = (number(&text[11..13])?, number(&text[14..16])?);
    let mut rest = &text[16..];
    let mut millis = clock(hour, minute, 0)?;
    if let Some(seconds) = rest.strip_prefix(':') {
        millis = clock(hour, minute, number(seconds.get(..2)?)?)?;
        rest = &seconds[2..];
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let thousandths: String = fraction[..digits].chars().chain("000".chars()).take(3).collect();
        millis += number(&thousandths)?;
        rest = &fraction[digits..];
    }
    Some(day * 86_400_000 + millis - offset(rest)?)
}

/// `2024-05-18T01:58:10Z`, with milliseconds only where there are any.
pub fn format_date(millis: i64) -> String {
    let (day, in_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, date) = civil(day);
    let (seconds, fraction) = (in_day / 1000, in_day % 1000);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let tail = if fraction == 0 { String::new() } else { format!(".{fraction:03}") };
    format!("{year:04}-{month:02}-{date:02}T{h:02}:{m:02}:{s:02}{tail}Z")
}

fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn clock(hour: i64, minute: i64, second: i64) -> Option<i64> {
    let valid = hour < 24 && minute < 60 && second <= 60;
    valid.then_some(((hour * 60 + minute) * 60 + second) * 1000)
}

/// A date without separators, or else a count of seconds or milliseconds.
fn digits(text: &str) -> Option<i64> {
    let year = YEARS.contains(&number(&text[..4])?);
    if let Some(date) = compact(text)
        && (year || text.len() == 8 || text.len() == 14)
        && text.len() <= 14
        && text.len() != 13
    {
        return Some(date);
    }
    let millis = match text.len() {
        9 | 10 => number(text)? * 1000,
        12 | 13 => number(text)?,
        _ => return None,
    };
    (millis <= LAST).then_some(millis)
}

/// `Wed, 30 Apr 2008 20:48:25 GMT`, with or without the day of the week, or with an offset.
fn mail(text: &str) -> Option<i64> {
    const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";
    let mut words = text.split([' ', ',', '-']).filter(|w| !w.is_empty()).peekable();
    if words.peek()?.starts_with(|c: char| c.is_ascii_alphabetic()) {
        words.next();
    }
    let day = number(words.next().filter(|w| w.len() <= 2)?)?;
    let name = words.next().filter(|w| w.len() >= 3)?.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.find(&name).filter(|at| at % 3 == 0)? as i64 / 3 + 1;
    let year = number(words.next().filter(|w| w.len() == 4)?)?;
    let date = days(year, month, day)? * 86_400_000;
    let Some(time) = words.next() else { return Some(date) };
    let mut parts = time.split(':').map(|p| if p.len() == 2 { number(p) } else { None });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let millis = clock(hour, minute, parts.next().unwrap_or(Some(0))?)?;
    // A dash is a separator above, so that an offset is looked for in the text itself.
    let zone = text.rsplit(' ').next().filter(|w| *w != time).unwrap_or_default();
    Some(date + millis - offset(zone)?)
}

/// `20080430` followed by nothing, hours, minutes or seconds.
fn compact(text: &str) -> Option<i64> {
    let day = days(number(&text[..4])?, number(&text[4..6])?, number(&text[6..8])?)?;
    let part = |from: usize| text.get(from..from + 2).map_or(Some(0), number);
    Some(day * 86_400_000 + clock(part(8)?, part(10)?, part(12)?)?)
}

/// Milliseconds east of Greenwich of `Z`, nothing, or `+02:00`.
fn offset(text: &str) -> Option<i64> {
    let text = text.trim();
    if ["", "z", "utc", "gmt", "ut"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Some(0);
    }
    let sign = match text.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 && digits.len() != 2 {
        return None;
    }
    let minutes = digits.get(2..4).map_or(Some(0), number)?;
    Some(sign * clock(number(&digits[..2])?, minutes, 0)?)
}

/// Days from 1970-01-01 to a civil date, by counting 400-year cycles that begin in March.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > last {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let (cycle, in_cycle) = (y.div_euclid(400), y.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let in_year = (153 * from_march + 2) / 5 + day - 1;
    Some(cycle * 146_097 + in_cycle * 365 + in_cycle / 4 - in_cycle / 100 + in_year - 719_468)
}

/// The civil date of a day counted from 1970-01-01.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let (cycle, d) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_cycle = (d - d / 1460 + d / 36_524 - d / 146_096) / 365;
    let in_year = d - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * in_year + 2) / 153;
    let date = in_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse_date(text).map(format_date).as_deref(), expected, "{text}");
    }

    #[test]
    fn forms_in_the_wild() {
        check("2024-05-18T01:58:10Z", Some("2024-05-18T01:58:10Z"));
        check("2024-05-18T01:58:10.5Z", Some("2024-05-18T01:58:10.500Z"));
        check("2024-05-18T01:58:10.123456+02:00", Some("2024-05-17T23:58:10.123Z"));
        check("20080430204825", Some("2008-04-30T20:48:25Z"));
        check("2000-02-29", Some("2000-02-29T00:00:00Z"));
        check("1969-12-31 23:59:59", Some("1969-12-31T23:59:59Z"));
        check("2024/05/18 01:58:10 UTC", Some("2024-05-18T01:58:10Z"));
        check("2024-05-18 01:58:10.25 +02", Some("2024-05-17T23:58:10.250Z"));
        check("Wed, 30 Apr 2008 20:48:25 GMT", Some("2008-04-30T20:48:25Z"));
        check("30 April 2008", Some("2008-04-30T00:00:00Z"));
        check("Wednesday, 30-Apr-2008 20:48 -0500", Some("2008-05-01T01:48:00Z"));
        check("1209588505", Some("2008-04-30T20:48:25Z"));
        check("1712101512.0", Some("2024-04-02T23:45:12Z"));
        check("1209588505123", Some("2008-04-30T20:48:25.123Z"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "2024", "1900-02-29", "2024-13-01", "2024-05-18T25:00:00Z", "yesterday"] {
            check(text, None);
        }
        check("2024-05-18T01:58:10+é", None);
        check("２024-05-18T01:58", None);
        for text in ["99999999999999999999999", "123456789012345", "30 Foo 2008", "12:30", "May"] {
            check(text, None);
        }
        check("Wed, 30 Apr 2008 25:00:00 GMT", None);
    }

    #[test]
    fn every_day_of_five_centuries_returns() {
        for day in -150_000..60_000 {
            let (y, m, d) = civil(day);
            assert_eq!(days(y, m, d), Some(day));
        }
    }
}
