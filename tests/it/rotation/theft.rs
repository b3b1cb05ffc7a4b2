//! Copied tokens, and how a sign-in ends.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::support::{
    actor::{PASSWORD, text},
    app::JWT_SECRET,
    race::race,
    service::{Service, refresh_token, stories},
};

use super::{claims, secrets::mac_key};

stories! {
    a_thief_is_noticed_in_every_interleaving
    an_end_beats_refreshes_under_way
}

/// The two clients that redeem tokens. Both have the first token of the sign-in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Victim,
    Thief,
}

/// The expected outcome of a redemption.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    /// The next generation.
    Rotation,
    /// The newest token, which the other already has: within the window for tabs.
    Repetition,
    /// The newest token, because its first answer seems to be lost.
    Forgiven,
    /// The service notices the theft.
    Notice,
}

#[derive(Clone, Copy, Debug)]
struct Redemption {
    /// Seconds from the beginning.
    at: u32,
    who: Who,
    /// The generation that is redeemed.
    generation: usize,
    /// The newest generation afterwards.
    newest: usize,
    due: Due,
}

/// A model of the rule: the history of a sign-in whose first token was copied, in order of time.
#[derive(Clone, Debug, Default)]
struct Theft {
    redemptions: Vec<Redemption>,
    /// When each generation but the newest was first redeemed.
    redeemed_at: Vec<u32>,
    forgiven: Option<usize>,
    /// The newest generation that each of the two has.
    has: [usize; 2],
}

impl Theft {
    const GRACE: u32 = 10;
    const PATIENCE: u32 = Self::GRACE + 2 * 30;
    const REMEMBERED: usize = 8;
    /// Pauses before the next redemption. Three of the first one exceed the grace, and one of the second does. The
    /// first and the third together exceed the patience.
    const PAUSES: [u32; 3] = [4, 10, 66];
    const REDEMPTIONS: usize = 6;

    fn over(&self) -> bool {
        self.noticed() || self.redemptions.len() == Self::REDEMPTIONS
    }

    fn noticed(&self) -> bool {
        self.redemptions
            .last()
            .is_some_and(|last| last.due == Due::Notice)
    }

    fn then(&self, pause: u32, who: Who) -> Self {
        let mut next = self.clone();
        let at = self.redemptions.last().map_or(0, |last| last.at + pause);
        let (generation, newest) = (self.has[who as usize], self.redeemed_at.len());
        let due = if generation == newest {
            next.redeemed_at.push(at);
            Due::Rotation
        } else {
            let age = at - self.redeemed_at[generation];
            let unused = generation + 1 == newest;
            let believed = |last| generation == last || generation >= last + 4;
            if age < Self::GRACE && newest - generation <= Self::REMEMBERED {
                Due::Repetition
            } else if unused && age < Self::PATIENCE && self.forgiven.is_none_or(believed) {
                next.forgiven = Some(generation);
                Due::Forgiven
            } else {
                Due::Notice
            }
        };
        let newest = next.redeemed_at.len();
        next.has[who as usize] = newest;
        next.redemptions.push(Redemption {
            at,
            who,
            generation,
            newest,
            due,
        });
        next
    }

    /// Every order of redemptions with every pause between them, until the theft is noticed. Both have the same token
    /// at first, so it does not matter who begins.
    fn all() -> Vec<Self> {
        let first = Theft::default().then(0, Who::Victim);
        let (mut over, mut under_way) = (Vec::new(), vec![first]);
        while let Some(theft) = under_way.pop() {
            for who in [Who::Victim, Who::Thief] {
                for pause in Self::PAUSES {
                    let next = theft.then(pause, who);
                    if next.over() {
                        over.push(next);
                    } else {
                        under_way.push(next);
                    }
                }
            }
        }
        over
    }

    /// Whether the two take turns, and each comes after the other's grace.
    fn is_leisurely(&self) -> bool {
        self.redemptions
            .windows(2)
            .all(|pair| pair[0].who != pair[1].who && pair[1].at - pair[0].at >= Self::GRACE)
    }
}

/// A theft against the real service: the tokens that were answered, by generation.
struct Played {
    theft: Theft,
    tokens: Vec<Value>,
}

impl Played {
    async fn redeem(&mut self, service: &Service, turn: usize, now: u32) {
        let Some(redemption) = self.theft.redemptions.iter().find(|r| r.at == now) else {
            return;
        };
        let token = refresh_token(&self.tokens[redemption.generation]);
        let answer = service
            .refresh(turn + redemption.who as usize, &token)
            .await;
        let story = format!("{redemption:?} of {:?}: {:#}", self.theft, answer.body);
        match redemption.due {
            Due::Rotation => {
                assert_eq!(answer.status, 200, "{story}");
                assert_ne!(refresh_token(&answer.body), token, "{story}");
                self.tokens.push(answer.body);
            }
            Due::Repetition | Due::Forgiven => {
                assert_eq!(answer.status, 200, "{story}");
                let newest = refresh_token(&self.tokens[redemption.newest]);
                assert_eq!(refresh_token(&answer.body), newest, "{story}");
            }
            Due::Notice => assert_eq!(answer.body["code"], "refresh_token_reused", "{story}"),
        }
    }

    /// After the notice no token of the two counts. Before it, the newest token counts.
    async fn end(&self, service: &Service, turn: usize) {
        let newest = self.tokens.last().expect("a token");
        if !self.theft.noticed() {
            service.me(turn, newest).await.ok(200);
            service.refresh(turn, &refresh_token(newest)).await.ok(200);
            return;
        }
        // The first generation came without an access token.
        for tokens in &self.tokens[1..] {
            let me = service.me(turn, tokens).await;
            me.problem(401, "sign_in_ended");
            let refreshed = service.refresh(turn, &refresh_token(tokens)).await;
            refreshed.problem(401, "invalid_refresh_token");
        }
    }
}

/// The first tokens of this many sign-ins: more than an account may have, made without hashing a password.
async fn sign_ins_of(service: &Service, username: &str, count: usize) -> Vec<Value> {
    let (key_id, key) = mac_key(JWT_SECRET);
    let count = i32::try_from(count).expect("a count");
    let rows = service.replicas[0]
        .sql()
        .await
        .query(
            "insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at)
             select gen_random_uuid(), id, sha256('0123456789abcdef'), $3, private.clock() + interval '14 days',
                    private.clock() + interval '30 days'
               from public.users, generate_series(1, $2)
              where username = $1
             returning uuid_send(id)",
            &[&username, &count, &key_id],
        )
        .await
        .expect("sign-ins");
    let token = |row: &tokio_postgres::Row| {
        let sign_in: Vec<u8> = row.get(0);
        let generation = 1_u32.to_be_bytes();
        let mut bytes = [&key_id[..], &sign_in, &generation, b"0123456789abcdef"].concat();
        bytes.extend_from_slice(hmac::sign(&key, &bytes).as_ref());
        json!({ "refreshToken": format!("rt_{}", URL_SAFE_NO_PAD.encode(bytes)) })
    };
    rows.iter().map(token).collect()
}

async fn a_thief_is_noticed_in_every_interleaving(replicas: usize) {
    let service = Service::of(replicas, |config| config.db_connections = Some(16)).await;
    service.stop_clock().await;
    service.register("ada").await;
    let thefts = Theft::all();
    let noticed = thefts.iter().filter(|theft| theft.noticed()).count();
    assert_eq!((thefts.len(), noticed), (3146, 1349));
    // The purpose of the rule: if a thief and a victim take turns slowly, the service notices it by the fourth
    // redemption. That is the second late one; the first late one could be a lost answer.
    for theft in thefts.iter().filter(|theft| theft.is_leisurely()) {
        assert!(theft.noticed() && theft.redemptions.len() <= 4, "{theft:?}");
    }
    // A victim alone never looks like a thief.
    for theft in &thefts {
        let alone = theft.redemptions.iter().all(|it| it.who == Who::Victim);
        assert!(!(alone && theft.noticed()), "{theft:?}");
    }
    let mut times: Vec<_> = thefts
        .iter()
        .flat_map(|theft| theft.redemptions.iter().map(|redemption| redemption.at))
        .collect();
    times.sort_unstable();
    times.dedup();
    let tokens = sign_ins_of(&service, "ada", thefts.len()).await;
    let mut all: Vec<_> = thefts
        .into_iter()
        .zip(tokens)
        .map(|(theft, token)| Played {
            theft,
            tokens: vec![token],
        })
        .collect();
    let mut now = 0;
    for time in times {
        service.travel(&format!("{} seconds", time - now)).await;
        now = time;
        // All of them run at the same time, each with its own redemptions.
        stream::iter(all.iter_mut().enumerate())
            .for_each_concurrent(8, async |(turn, played)| {
                played.redeem(&service, turn, now).await
            })
            .await;
    }
    assert_eq!(service.causes().await, json!({ "reuse": noticed }));
    stream::iter(all.iter().enumerate())
        .for_each_concurrent(8, async |(turn, played)| played.end(&service, turn).await)
        .await;
    assert_eq!(service.causes().await, json!({ "reuse": noticed }));
}

async fn an_end_beats_refreshes_under_way(replicas: usize) {
    let service = Service::of(replicas, |config| config.db_connections = Some(32)).await;
    service.stop_clock().await;
    for (number, (end, comes_first)) in [
        "logout", "others", "sign out", "password", "ban", "delete", "erase",
    ]
    .into_iter()
    .flat_map(|end| [(end, true), (end, false)])
    .filter(|ending| *ending != ("ban", true))
    .enumerate()
    {
        let name = format!("ada{number}");
        let tokens = service.register(&name).await;
        let other = service.log_in(&name).await;
        let sign_in = text(&claims(&tokens), "/session_id");
        let actor = service.visitor(1).with_tokens(&other);
        let sql = service.replicas[0].sql().await;
        let log_out = |tokens: &Value, scope: &str| json!({ "refreshToken": refresh_token(tokens), "scope": scope });
        let (local, others) = (log_out(&tokens, "local"), log_out(&other, "others"));
        let ending = async move {
            match end {
                "logout" => {
                    actor.post("/auth/logout", local).await.ok(204);
                }
                "others" => {
                    actor.post("/auth/logout", others).await.ok(204);
                }
                "sign out" => {
                    let path = format!("/auth/sign-ins/{sign_in}");
                    actor.delete(&path).await.ok(204);
                }
                "password" => {
                    let new = "kT9#vQz! Zq8";
                    actor.change_password(PASSWORD, new).await.ok(204);
                }
                "erase" => {
                    actor.erase(PASSWORD).await.ok(204);
                }
                "ban" => {
                    let ban = "insert into public.bans (user_id) select id from public.users where username = $1";
                    sql.execute(ban, &[&name]).await.expect("a ban");
                }
                _ => {
                    let delete = "delete from public.users where username = $1";
                    sql.execute(delete, &[&name]).await.expect("a deletion");
                }
            }
        };

        let gate = service.replicas[0]
            .hold("select from private.refresh_tokens for update")
            .await;
        let refresh = || {
            race((0..10).map(|turn| {
                let (visitor, token) = (service.visitor(turn), refresh_token(&tokens));
                let body = json!({ "refreshToken": token });
                async move { visitor.post("/auth/refresh", body).await }
            }))
        };
        // A ban waits for nothing. It counts for requests that come after it, and those that wait came before.
        let waits = usize::from(end != "ban");
        let (ending, refreshes) = if comes_first {
            let ending = race([ending]);
            gate.until_waiting(waits).await;
            (ending, refresh())
        } else {
            let refreshes = refresh();
            gate.until_waiting(10).await;
            (race([ending]), refreshes)
        };
        gate.until_waiting(10 + waits).await;
        gate.release().await;
        ending.answers().await;

        let (refused, code) = match end {
            "ban" => (403, "account_banned"),
            _ => (401, "invalid_refresh_token"),
        };
        let mut had = vec![tokens];
        for answer in refreshes.answers().await {
            match answer.status.as_u16() {
                200 => had.push(answer.body),
                status => assert_eq!(
                    (status, answer.body["code"].as_str()),
                    (refused, Some(code))
                ),
            }
        }
        // The sign-in is over, whether or not the refreshes succeeded.
        for tokens in &had {
            let again = service.refresh(0, &refresh_token(tokens)).await;
            again.problem(refused, code);
            let me = service.me(1, tokens).await;
            assert_eq!(me.status.as_u16(), refused, "{end}: {:#}", me.body);
        }
        if end == "ban" {
            service.execute("delete from public.bans").await;
            let newest = had.last().expect("tokens");
            service.refresh(0, &refresh_token(newest)).await.ok(200);
        }
    }
    // The service noticed no theft.
    assert_eq!(
        service.causes().await,
        json!({ "logout": 4, "password_changed": 2, "signed_out": 2 })
    );
}
