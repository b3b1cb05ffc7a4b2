//! Challenges as content: loaded from files, edited in the dashboard, and the changes that both ways must refuse.

mod dashboard;
mod files;

use std::fs;

use secrecy::ExposeSecret;

use crate::support::{
    app::TestApp,
    program::{Ended, Scratch},
};

/// `speedcoding challenges load` with a file of this text, on an app's database.
async fn load(app: &TestApp, scratch: &Scratch, text: &str) -> Ended {
    fs::write(scratch.path("challenge.toml"), text).expect("a file");
    let load = scratch.program(&["challenges", "load", "challenge.toml"]);
    load.on(app.database.url().expose_secret()).finish().await
}

/// Loads a correct file. Returns what the command says.
async fn loaded(app: &TestApp, scratch: &Scratch, text: &str) -> String {
    load(app, scratch, text).await.well().stdout
}

/// A challenge of three milestones, of which the second takes an answer.
fn puzzle(title: &str, variants: impl IntoIterator<Item = (String, String)>) -> String {
    let variants: String = variants
        .into_iter()
        .map(|(input, answer)| {
            format!("[[milestones.variants]]\ninput = '''{input}'''\nanswer = '{answer}'\n")
        })
        .collect();
    format!(
        "slug = 'puzzle'\ntitle = '{title}'\n\
         [[milestones]]\nnumber = 1\ntitle = 'First'\n\
         [[milestones]]\nnumber = 3\ntitle = 'Third'\nverification = 'verifier'\n\
         [[milestones]]\nnumber = 2\ntitle = 'Second'\nverification = 'answer'\n{variants}"
    )
}

fn variants(numbers: impl IntoIterator<Item = u32>) -> Vec<(String, String)> {
    let numbers = numbers.into_iter();
    numbers
        .map(|n| (format!("riddle {n}."), format!("solution {n}.")))
        .collect()
}
