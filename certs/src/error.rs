//! Errors of certificates, for operators: which file, what is wrong, what to do.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

/// A file that cannot be used.
#[derive(Debug)]
pub struct CertError {
    /// The file.
    pub file: PathBuf,
    /// The defect.
    pub problem: String,
    /// The remedy.
    pub remedy: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl CertError {
    pub(crate) fn new(file: &Path, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
            cause: None,
        }
    }

    pub(crate) fn because(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..self
        }
    }

    pub(crate) fn read(file: &Path, error: io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "put the file there or correct the path in the configuration"
            }
            io::ErrorKind::PermissionDenied => "let the server's user read it",
            _ => "see whether the file system is healthy",
        };
        Self::new(file, "cannot be read", remedy).because(error)
    }

    pub(crate) fn write(file: &Path, error: io::Error) -> Self {
        Self::new(
            file,
            "cannot be written",
            "let this user write there and see that there is space",
        )
        .because(error)
    }
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)?;
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        write!(f, "; {}", self.remedy)
    }
}

impl Error for CertError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|e| &**e as _)
    }
}
