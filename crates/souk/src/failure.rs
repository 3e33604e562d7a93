//! How the program fails: kinds become exit codes, messages say what to do.

use daemon::api::types::{ErrorBody, ErrorKind};

/// What went wrong, and with which exit code the program ends.
#[derive(Debug)]
pub(crate) struct Failure {
    pub kind: ErrorKind,
    pub rule: Option<String>,
    pub message: String,
}

impl Failure {
    pub(crate) fn fault(message: impl Into<String>) -> Failure {
        Failure { kind: ErrorKind::Fault, rule: None, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure { kind: ErrorKind::Usage, rule: None, message: message.into() }
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Failure {
        Failure { kind: ErrorKind::Unreachable, rule: None, message: message.into() }
    }

    /// 1 failed, 2 usage, 3 unreachable, 4 refused. (0 is success.)
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Fault | ErrorKind::NotFound => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Unreachable => 3,
            ErrorKind::Refused | ErrorKind::Unauthorized | ErrorKind::Forbidden => 4,
        }
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Failure {
        Failure { kind: body.kind, rule: body.rule, message: body.message }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::fault(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::fault(error.to_string())
    }
}
