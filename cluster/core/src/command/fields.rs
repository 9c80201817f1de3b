//! Checks of fields that several commands have.

use proto_messages::{
    attributes,
    temporal::api::{
        common::v1::{Memo, Payload, SearchAttributes},
        enums::v1::WorkflowTaskFailedCause,
    },
};

use super::{Check, CommandError};

impl Check<'_> {
    /// Refuses an id or name that is too long, or has a NUL character, which PostgreSQL keeps in no text.
    pub(crate) fn length(
        &self,
        cause: WorkflowTaskFailedCause,
        what: &str,
        value: &str,
    ) -> Result<(), CommandError> {
        if value.len() > self.ctx.limits.id_length {
            return Err(CommandError::new(
                cause,
                format!("{what} exceeds length limit."),
            ));
        }
        if value.as_bytes().contains(&0) {
            return Err(CommandError::new(
                cause,
                format!("{what} contains a NUL character."),
            ));
        }
        Ok(())
    }

    /// Refuses what is no cron schedule, and one that never fires.
    pub(crate) fn cron(
        &self,
        cause: WorkflowTaskFailedCause,
        command: &str,
        schedule: &str,
    ) -> Result<(), CommandError> {
        if schedule.is_empty() {
            return Ok(());
        }
        crate::cron::validate(schedule, self.ctx.now).map_err(|fault| {
            CommandError::new(cause, format!("invalid CronSchedule on {command}: {fault}"))
        })
    }

    /// Refuses search attributes that are unknown or only the server sets, and ends the run when they are too
    /// large. `command` is where they stand.
    pub(crate) fn search_attributes(
        &self,
        command: &str,
        attributes: Option<&SearchAttributes>,
    ) -> Result<(), CommandError> {
        const BAD: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadSearchAttributes;
        let Some(attributes) = attributes else {
            return Ok(());
        };
        let limits = self.ctx.limits;
        attributes::check(attributes, &limits.namespace)
            .map_err(|text| CommandError::new(BAD, text))?;
        let count = attributes.indexed_fields.len();
        if count > limits.search_attributes_limit {
            let most = limits.search_attributes_limit;
            let text = format!("number of search attributes {count} exceeds limit {most}");
            return Err(CommandError::new(BAD, text));
        }
        let too_large = |(name, value): (&String, &Payload)| {
            (value.data.len() > limits.search_attribute_size_error)
                .then(|| format!("search attribute {name} value exceeds size limit."))
        };
        let text = attributes.indexed_fields.iter().find_map(too_large);
        let whole = prost::Message::encoded_len(attributes);
        match text {
            None if whole <= limits.search_attributes_size_error => Ok(()),
            text => Err(CommandError {
                terminate: true,
                ..CommandError::new(
                    BAD,
                    text.unwrap_or_else(|| {
                        format!("{command}. SearchAttributes exceed size limit.")
                    }),
                )
            }),
        }
    }

    /// Ends the run when a memo is too large. `command` is where it stands.
    pub(crate) fn memo(
        &self,
        cause: WorkflowTaskFailedCause,
        command: &str,
        memo: Option<&Memo>,
    ) -> Result<(), CommandError> {
        if memo.map_or(0, prost::Message::encoded_len) <= self.ctx.limits.memo_size_error {
            return Ok(());
        }
        Err(CommandError {
            terminate: true,
            ..CommandError::new(cause, format!("{command}. Memo exceeds size limit."))
        })
    }

    /// Refuses a run id that is none. Empty means the current run.
    pub(crate) fn run_id(
        &self,
        cause: WorkflowTaskFailedCause,
        command: &str,
        run_id: &str,
    ) -> Result<(), CommandError> {
        if run_id.is_empty() || is_uuid(run_id) {
            return Ok(());
        }
        Err(CommandError::new(
            cause,
            format!("Invalid RunId set on {command}. RunId={run_id}"),
        ))
    }
}

/// Whether the text is a UUID, as every run id is.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
