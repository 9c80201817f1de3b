//! The pollers of a queue in recent time, for describe.

use std::{collections::HashMap, time::Duration};

use proto_ids::Timestamp;
use proto_messages::temporal::api::taskqueue::v1::PollerInfo;

/// How long a poller is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// How many are remembered: workers choose their identities.
const REMEMBERED_MAX: usize = 1_000;

/// Pollers by identity.
#[derive(Debug, Default)]
pub(super) struct Pollers(HashMap<String, (Timestamp, f64)>);

impl Pollers {
    /// Notes a poll. Of too many pollers the one that was here longest ago is forgotten.
    pub(super) fn note(&mut self, identity: &str, now: Timestamp, per_second: f64) {
        if let Some(known) = self.0.get_mut(identity) {
            *known = (now, per_second);
            return;
        }
        if self.0.len() >= REMEMBERED_MAX {
            let oldest = self.0.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(oldest) = oldest.map(|(identity, _)| identity.clone()) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(identity.to_owned(), (now, per_second));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Those of the last minutes, in the order of their identities.
    pub(super) fn infos(&mut self, now: Timestamp) -> Vec<PollerInfo> {
        self.0.retain(|_, (at, _)| now.since(*at) < REMEMBERED_FOR);
        let info = |(identity, (at, rate)): (&String, &(Timestamp, f64))| PollerInfo {
            last_access_time: Some(proto_messages::time::to_proto(*at)),
            identity: identity.clone(),
            rate_per_second: *rate,
            ..Default::default()
        };
        let mut infos: Vec<_> = self.0.iter().map(info).collect();
        infos.sort_by(|a, b| a.identity.cmp(&b.identity));
        infos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_pollers_the_oldest_is_forgotten() {
        let mut pollers = Pollers::default();
        let at = Timestamp::from_millis;
        for n in 0..REMEMBERED_MAX as i64 {
            pollers.note(&format!("worker-{n:04}"), at(1_000 + n), 1.0);
        }
        assert_eq!(pollers.infos(at(3_000)).len(), REMEMBERED_MAX);
        pollers.note("one-more", at(2_500), 1.0);
        let infos = pollers.infos(at(3_000));
        assert_eq!(infos.len(), REMEMBERED_MAX);
        assert_eq!(infos[0].identity, "one-more");
        assert_eq!(infos[1].identity, "worker-0001");
    }
}
