//! An error with its causes, for the log and for operators. Most errors say too little by themselves.

use std::error::Error;

/// The error and its causes in one line. tokio-postgres says only "db error" by itself.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    causes(error)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Whether the error, or one of its causes, is of this type and meets the condition.
pub fn is_caused_by<T: Error + 'static>(
    error: &(dyn Error + 'static),
    is_meant: impl Fn(&T) -> bool,
) -> bool {
    causes(error).any(|error| error.downcast_ref().is_some_and(&is_meant))
}

type Cause<'a> = &'a (dyn Error + 'static);

/// The error, its cause, the cause of that.
fn causes<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |error| (**error).source())
}
