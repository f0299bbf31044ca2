//! The reference implementation as a program for tests. `reference ROLE CONFIG` takes its configuration as JSON; then each
//! line of its input is a command, `{ "op": … }`, and it answers each with one line: `{ "ok": … }` or `{ "error": … }`.
//! The first line of its output is the answer to the configuration. It ends with its input.
//!
//! Payloads are hexadecimal. Numbers of more than 53 bits (sequences, shards, nanoseconds) are strings.

mod consumer;
mod file;
mod json;
mod manager;
mod producer;

use json::{Failure, text};
use sea_streamer_redis::{RedisConnectOptions, RedisStreamer};
use sea_streamer_types::Streamer;
use serde_json::{Value, json};
use std::io::{BufRead, Write};

/// Carries out commands, one at a time.
pub trait Role {
    fn run(&mut self, command: &Value) -> impl Future<Output = Result<Value, Failure>>;
}

pub async fn connect(config: &Value) -> Result<RedisStreamer, Failure> {
    let mut options = RedisConnectOptions::default();
    options.set_db(config["db"].as_u64().unwrap_or(0) as u32);
    #[cfg(feature = "nanosecond")]
    options.set_timestamp_format(sea_streamer_redis::TimestampFormat::UnixTimestampNanos);
    Ok(RedisStreamer::connect(text(config, "url")?.parse()?, options).await?)
}

async fn serve(mut role: impl Role, ready: Value) -> Result<(), Failure> {
    answer(Ok(ready))?;
    // Commands come one by one, each after the answer to the one before.
    for line in std::io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        answer(role.run(&command).await)?;
    }
    Ok(())
}

fn answer(result: Result<Value, Failure>) -> Result<(), Failure> {
    let line = match result {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

async fn start() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().ok_or("no role")?;
    let config: Value = serde_json::from_str(&arguments.next().ok_or("no configuration")?)?;
    match role.as_str() {
        "produce" => serve(producer::Producing::create(&config).await?, Value::Null).await,
        "consume" => {
            let consuming = consumer::Consuming::create(&config).await?;
            let ready = consuming.describe();
            serve(consuming, ready).await
        }
        "manage" => serve(manager::Managing::create(&config).await?, Value::Null).await,
        "decode" => answer(file::decode(&config).await),
        "encode" => answer(file::encode(&config).await),
        _ => Err(format!("no role '{role}'").into()),
    }
}

#[tokio::main]
async fn main() {
    if let Err(error) = start().await {
        answer(Err(error)).expect("an open output");
        std::process::exit(1);
    }
}
