//! Every statement that the service sends: its text from `sql/queries`, the types of its parameters.

use tokio_postgres::types::Type;

/// A statement. The file, the handler and the SQL function bear its name.
pub struct Statement {
    /// The file in `sql/queries`, without its ending.
    pub name: &'static str,
    /// The file's text.
    pub sql: &'static str,
    /// The types of `$1`, `$2`, …: so that it can also be sent unnamed, in one round trip.
    pub types: &'static [Type],
}

macro_rules! queries {
    ($($constant:ident = $name:literal ($($ty:ident),*);)*) => {
        $(
            #[doc = concat!("`sql/queries/", $name, ".sql`")]
            pub const $constant: Statement = Statement {
                name: $name,
                sql: include_str!(concat!("../../sql/queries/", $name, ".sql")),
                types: &[$(Type::$ty),*],
            };
        )*
        /// All of them: checked when the service connects.
        pub const ALL: &[Statement] = &[$($constant),*];
    };
}

queries! {
    READY = "ready" ();
    COUNT_RUNNING_SESSIONS = "count_running_sessions" ();
    REGISTER = "register" (TEXT, TEXT, UUID, BYTEA, BYTEA, FLOAT8, FLOAT8, TEXT, INET);
    FIND_CREDENTIALS = "find_credentials" (TEXT, BYTEA, BYTEA, INET);
    RECORD_FAILED_LOGIN = "record_failed_login" (BYTEA, BYTEA, UUID, INET, INT4, FLOAT8);
    OPEN_SIGN_IN = "open_sign_in" (UUID, UUID, BYTEA, BYTEA, FLOAT8, FLOAT8, TEXT, INET, TEXT, TEXT, BYTEA, BYTEA);
    REFRESH = "refresh" (UUID, BYTEA, BYTEA, INT4, FLOAT8, FLOAT8, FLOAT8);
    REFUSE_REFRESH = "refuse_refresh" (UUID, BYTEA, BYTEA, INT4, FLOAT8, FLOAT8);
    LOGOUT = "logout" (UUID, BYTEA, BYTEA, TEXT);
    LIST_SIGN_INS = "list_sign_ins" (JSONB, INT4, UUID);
    END_SIGN_IN = "end_sign_in" (JSONB, UUID);
    SWEEP_SIGN_INS = "sweep_sign_ins" (UUID, INT8, FLOAT8);
    ADMIT = "admit" (JSONB);
    FIND_LIVE_SIGN_IN = "find_live_sign_in" (UUID, UUID);
    FIND_OWN_CREDENTIALS = "find_own_credentials" (JSONB);
    LOGIN_DELAY = "login_delay" (BYTEA, BYTEA);
    CHANGE_PASSWORD = "change_password" (JSONB, TEXT, TEXT, BYTEA, BYTEA);
    DELETE_ME = "delete_me" (JSONB, TEXT, BYTEA, BYTEA);
    GET_ME = "get_me" (JSONB);
    START_SESSION = "start_session" (JSONB, TEXT, TEXT);
    VERIFY_MILESTONE = "verify_milestone" (JSONB, UUID, INT4, TEXT);
    ATTEST_MILESTONE = "attest_milestone" (JSONB, UUID, INT4, TEXT, TEXT, TEXT);
    GET_MILESTONE_INPUT = "get_milestone_input" (JSONB, UUID, INT4);
    END_SESSION = "end_session" (JSONB, UUID, TEXT_ARRAY, TEXT, TEXT_ARRAY, TEXT, JSONB);
    ABANDON_SESSION = "abandon_session" (JSONB, UUID);
    GET_CURRENT_SESSION = "get_current_session" (JSONB);
    LIST_SESSIONS = "list_sessions" (JSONB, INT4, UUID);
    LIST_SUBMISSIONS = "list_submissions" (JSONB, INT4, BOOL, TEXT, TEXT, TIMESTAMPTZ, UUID);
    GET_SUBMISSION = "get_submission" (JSONB, UUID);
    UPDATE_SUBMISSION = "update_submission" (JSONB, UUID, INT4, TEXT_ARRAY, TEXT, BOOL);
    WITHDRAW_SUBMISSION = "withdraw_submission" (JSONB, UUID);
    CLAIM_SUBMISSION = "claim_submission" (JSONB, UUID);
    RELEASE_SUBMISSION = "release_submission" (JSONB, UUID);
    REVIEW_SUBMISSION = "review_submission" (JSONB, UUID, TEXT, INT4, TEXT);
    REOPEN_SUBMISSION = "reopen_submission" (JSONB, UUID, TEXT);
    LIST_CHALLENGES = "list_challenges" (JSONB, INT4, TEXT);
    GET_CHALLENGE = "get_challenge" (JSONB, TEXT);
    GET_LEADERBOARD = "get_leaderboard" (JSONB, TEXT, TEXT, INT8_ARRAY, INT4, INT8, TIMESTAMPTZ, UUID);
    GET_STANDING = "get_standing" (JSONB, TEXT, TEXT);
    LIST_RECORDS = "list_records" (JSONB, TEXT, TEXT, INT8_ARRAY, INT4, INT8);
    GET_USER = "get_user" (JSONB, TEXT);
    GET_SESSION = "get_session" (JSONB, UUID);
}
