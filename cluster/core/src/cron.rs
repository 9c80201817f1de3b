//! Cron schedules: five fields or a descriptor, in UTC unless `CRON_TZ=` or `TZ=` names a zone.

use std::time::Duration;

use jiff::{Timestamp as Instant, civil, tz::TimeZone};
use proto_ids::{Timestamp, parse_go_duration};

/// How many years ahead a fitting moment is looked for.
const YEARS_AHEAD: i16 = 5;

/// A parsed schedule.
#[derive(Clone, Debug)]
enum Schedule {
    /// `@every` and a duration.
    Every(Duration),
    /// Fields, each a set of bits.
    Fields(Box<Fields>),
}

#[derive(Clone, Debug)]
struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// A restricted day and a restricted weekday match when either does.
    either_day: bool,
    zone: TimeZone,
}

/// Refuses what is no schedule, and one that never fires again after `now`, such as that of a 30th of February.
/// The text is Temporal's.
pub fn validate(schedule: &str, now: Timestamp) -> Result<(), &'static str> {
    if parse(schedule).is_err() {
        return Err("invalid CronSchedule.");
    }
    match backoff(schedule, now, now) {
        Some(_) => Ok(()),
        None => Err("invalid CronSchedule, no time can be found to satisfy the schedule"),
    }
}

/// How long after `closed` the next run starts, when the run before was meant for `scheduled`. Rounded up to
/// a whole second. `None` when the schedule never fires again.
pub fn backoff(schedule: &str, scheduled: Timestamp, closed: Timestamp) -> Option<Duration> {
    let next = match parse(schedule).ok()? {
        // The moment the run before was meant for is still to come.
        _ if closed < scheduled => scheduled.nanos(),
        Schedule::Every(every) => {
            // Counted from the moment the run before was meant for, so that the rhythm holds.
            let step = i64::try_from(every.as_nanos()).ok()?;
            let passed = closed.nanos().saturating_sub(scheduled.nanos()).max(0);
            scheduled
                .nanos()
                .checked_add((passed / step + 1).checked_mul(step)?)?
        }
        Schedule::Fields(fields) => {
            let mut next = fields.after(scheduled.nanos())?;
            if next < closed.nanos() {
                next = fields.after(closed.nanos() - 1)?;
            }
            next
        }
    };
    let wait = Duration::from_nanos(u64::try_from(next - closed.nanos()).ok()?);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Some(Duration::from_secs(seconds))
}

fn parse(text: &str) -> Result<Schedule, String> {
    let mut text = text.trim();
    let mut zone = TimeZone::UTC;
    if let Some(rest) = text
        .strip_prefix("CRON_TZ=")
        .or_else(|| text.strip_prefix("TZ="))
    {
        let (name, fields) = rest
            .split_once(char::is_whitespace)
            .ok_or("a zone is followed by nothing")?;
        zone = TimeZone::get(name).map_err(|_| format!("zone {name} is not known"))?;
        text = fields.trim_start();
    }
    if let Some(every) = text.strip_prefix("@every ") {
        let nanos = parse_go_duration(every.trim())
            .ok_or_else(|| format!("{every:?} is not a duration"))?;
        // In whole seconds, and at least one.
        let seconds = u64::try_from(nanos).unwrap_or(0) / 1_000_000_000;
        return Ok(Schedule::Every(Duration::from_secs(seconds.max(1))));
    }
    let expanded = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ if text.starts_with('@') => return Err(format!("descriptor {text} is not known")),
        _ => text,
    };
    let fields: Vec<&str> = expanded.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(format!("{} fields were given, not 5", fields.len()));
    };
    let any = |field: &str| {
        field
            .split(',')
            .any(|p| matches!(p, "*" | "?" | "*/1" | "?/1"))
    };
    Ok(Schedule::Fields(Box::new(Fields {
        minute: parse_field(minute, 0, 59, &[])?,
        hour: parse_field(hour, 0, 23, &[])?,
        day: parse_field(day, 1, 31, &[])?,
        month: parse_field(month, 1, 12, MONTHS)?,
        weekday: parse_field(weekday, 0, 6, WEEKDAYS)?,
        either_day: !any(day) && !any(weekday),
        zone,
    })))
}

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A comma-separated list of `*`, `?`, `n`, `n-m`, each with an optional `/step`.
fn parse_field(field: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    let number = |text: &str| -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = names.iter().position(|n| *n == lower) {
            return Ok(at as u32 + low.min(1));
        }
        let n: u32 = text
            .parse()
            .map_err(|_| format!("{text:?} is not a number"))?;
        if (low..=high).contains(&n) {
            Ok(n)
        } else {
            Err(format!("{n} is outside {low}-{high}"))
        }
    };
    let mut bits = 0u64;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step: u32 = step.parse().map_err(|_| format!("{step:?} is no step"))?;
                (range, Some(step))
            }
            None => (part, None),
        };
        if step == Some(0) {
            return Err("a step of 0 never ends".into());
        }
        let (from, to) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (low, high),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (_, None) if step.is_some() => (number(range)?, high),
            (_, None) => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(format!("{range} ends before it begins"));
        }
        for n in (from..=to).step_by(step.unwrap_or(1) as usize) {
            bits |= 1 << n;
        }
    }
    Ok(bits)
}

impl Fields {
    /// The first fitting moment after `nanos`.
    fn after(&self, nanos: i64) -> Option<i64> {
        let from = Instant::from_nanosecond(i128::from(nanos)).ok()?;
        let local = from.to_zoned(self.zone.clone()).datetime();
        let last_year = local.year().checked_add(YEARS_AHEAD)?;
        let mut date = local.date();
        // On the first day only the minutes after the current one are left.
        let mut minutes_from = i32::from(local.hour()) * 60 + i32::from(local.minute()) + 1;
        while date.year() <= last_year {
            if self.month & (1 << date.month()) == 0 {
                date = date.last_of_month().tomorrow().ok()?;
                minutes_from = 0;
                continue;
            }
            if self.fits_day(date)
                && let Some(found) = self.first_minute(date, minutes_from, nanos)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
            minutes_from = 0;
        }
        None
    }

    fn fits_day(&self, date: civil::Date) -> bool {
        let day = self.day & (1 << date.day()) != 0;
        let weekday = self.weekday & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        if self.either_day {
            day || weekday
        } else {
            day && weekday
        }
    }

    /// The first fitting minute of a day that exists in the zone and lies after `nanos`.
    fn first_minute(&self, date: civil::Date, minutes_from: i32, nanos: i64) -> Option<i64> {
        for minute_of_day in minutes_from..24 * 60 {
            let (hour, minute) = (minute_of_day / 60, minute_of_day % 60);
            if self.hour & (1 << hour) == 0 || self.minute & (1 << minute) == 0 {
                continue;
            }
            let at = date.at(hour as i8, minute as i8, 0, 0);
            let ambiguous = self.zone.to_ambiguous_timestamp(at);
            // A minute that a change of clocks skips does not fire on that day.
            let is_gap = matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. });
            let moment = ambiguous.compatible().ok()?;
            let found = i64::try_from(moment.as_nanosecond()).ok()?;
            if !is_gap && found > nanos {
                return Some(found);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let instant: Instant = text.parse().expect("a moment");
        Timestamp::from_nanos(i64::try_from(instant.as_nanosecond()).expect("in range"))
    }

    fn check(schedule: &str, scheduled: &str, closed: &str, expected: &str) {
        let wait = backoff(schedule, at(scheduled), at(closed)).expect("fires again");
        assert_eq!(
            at(closed).plus(wait),
            at(expected),
            "{schedule} after {closed}"
        );
    }

    #[test]
    fn finds_the_next_start() {
        let t = "2024-02-28T10:15:30Z";
        check("*/5 * * * *", t, t, "2024-02-28T10:20:00Z");
        check("0 10 * * *", t, t, "2024-02-29T10:00:00Z");
        check("30 9 29 2 *", t, t, "2024-02-29T09:30:00Z");
        check("0 0 * * MON", t, t, "2024-03-04T00:00:00Z");
        check("0 0 1 * MON", t, t, "2024-03-01T00:00:00Z");
        check("0 0 ? * 0", t, t, "2024-03-03T00:00:00Z");
        // The run before was meant for a moment that is still to come.
        check("@hourly", "2024-02-28T12:00:00Z", t, "2024-02-28T12:00:00Z");
        check("@monthly", t, t, "2024-03-01T00:00:00Z");
        check("@hourly", t, "2024-02-28T13:00:01Z", "2024-02-28T14:00:00Z");
        check(
            "@every 90s",
            t,
            "2024-02-28T10:16:00Z",
            "2024-02-28T10:17:00Z",
        );
        check(
            "@every 1m",
            t,
            "2024-02-28T10:20:31Z",
            "2024-02-28T10:21:30Z",
        );
        check(
            "CRON_TZ=America/New_York 0 9 * * *",
            t,
            t,
            "2024-02-28T14:00:00Z",
        );
        check(
            "TZ=Europe/Berlin 30 2 * * *",
            "2024-03-30T12:00:00Z",
            "2024-03-30T12:00:00Z",
            "2024-04-01T00:30:00Z",
        );
    }

    #[test]
    fn refuses_what_is_no_schedule() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "@often",
            "@every x",
            "TZ=Nowhere/None * * * * *",
            "* * * * * *",
            "0 0 * * 7",
            "@every 0x",
            "@every",
            "@every 1d",
        ] {
            let refused = validate(bad, at("2024-02-28T10:15:30Z"));
            assert_eq!(refused, Err("invalid CronSchedule."), "{bad}");
        }
    }

    #[test]
    fn refuses_a_schedule_that_never_fires() {
        let now = at("2024-02-28T10:15:30Z");
        for never in [
            "0 0 30 2 *",
            "0 0 31 4,6,9,11 *",
            "CRON_TZ=Europe/Berlin 0 0 30 2 *",
        ] {
            let refused = validate(never, now);
            assert!(
                refused.is_err_and(
                    |text| text.ends_with("no time can be found to satisfy the schedule")
                ),
                "{never}"
            );
        }
        for ever in [
            "0 0 29 2 *",
            "0 0 30 2 mon",
            "@every 0",
            "@every -5s",
            "@every .5s",
            "@every 1h",
        ] {
            assert_eq!(validate(ever, now), Ok(()), "{ever}");
        }
    }
}
