//! The Rust reference, sea-streamer-redis, as a contender of the benchmarks.
//!
//!     peer ROW URL KEY GROUP MESSAGES BATCH BYTES
//!
//! A batch of 0 is the default one. The program prints `{}` when it is connected. For each line of its input it does one
//! round, and prints its milliseconds, the milliseconds of CPU time that it took, and its resident memory in bytes. It ends
//! with its input.

mod consuming;
mod cost;
mod producing;

use cost::Cost;
use sea_streamer_redis::{RedisConnectOptions, RedisProducerOptions, RedisStreamer};
use sea_streamer_types::{ConsumerGroup, StreamKey, Streamer};
use std::time::Duration;

pub type Failure = Box<dyn std::error::Error>;

/// A round that takes longer hangs, or waits for a message that was lost.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a round does.
pub struct Job {
    row: String,
    url: String,
    pub key: StreamKey,
    pub group: ConsumerGroup,
    pub messages: usize,
    pub batch: usize,
    pub payload: Vec<u8>,
}

impl Job {
    fn from_arguments() -> Result<Self, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [row, url, key, group, messages, batch, bytes] = arguments.as_slice() else {
            return Err("usage: peer ROW URL KEY GROUP MESSAGES BATCH BYTES".into());
        };
        Ok(Self {
            row: row.clone(),
            url: url.clone(),
            key: StreamKey::new(key)?,
            group: ConsumerGroup::new(group),
            messages: messages.parse()?,
            batch: batch.parse()?,
            payload: vec![b'x'; bytes.parse()?],
        })
    }
}

async fn run() -> Result<(), Failure> {
    let job = Job::from_arguments()?;
    let streamer = RedisStreamer::connect(job.url.parse()?, RedisConnectOptions::default()).await?;
    let mut producer = streamer.create_generic_producer(RedisProducerOptions::default()).await?;
    println!("{{}}");
    for line in std::io::stdin().lines() {
        line?;
        let before = Cost::now()?;
        let round = async {
            match job.row.as_str() {
                "send" => producing::send(&mut producer, &job).await?,
                "send-awaited" => producing::send_awaited(&producer, &job).await?,
                "rolling" => return Ok(Some(consuming::rolling(&streamer, &job).await?)),
                "commit-1000" => consuming::commit_every(&streamer, &job, 1_000).await?,
                "commit-at-end" => consuming::commit_every(&streamer, &job, job.messages).await?,
                "tail" => consuming::tail(&streamer, &job).await?,
                row => return Err(format!("there is no row '{row}'").into()),
            }
            Ok::<_, Failure>(None)
        };
        let unended = tokio::time::timeout(TIMEOUT, round).await??;
        let cost = Cost::now()?.since(&before);
        if let Some(consumer) = unended {
            consumer.end().await?;
        }
        println!("{cost}");
    }
    Ok(())
}

#[tokio::main]
async fn main() {
    if let Err(error) = run().await {
        eprintln!("the Rust client: {error}");
        std::process::exit(1);
    }
}
