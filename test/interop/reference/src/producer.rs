use crate::json::{Failure, header_json, list, number, payload, text, timestamp};
use crate::{Role, connect};
use sea_streamer_redis::{
    PseudoRandomSharder, RedisProducer, RedisProducerOptions, RoundRobinSharder, Sharder, SharderConfig,
};
use sea_streamer_types::{Producer, StreamKey, Streamer};
use serde_json::{Value, json};

/// `{ url, sharder?: { roundRobin: n } | { pseudoRandom: n } | { given: [shard, …] } }`
pub struct Producing {
    producer: RedisProducer,
}

/// Assigns the given shards round-robin.
#[derive(Debug, Clone)]
struct GivenShards(Vec<u64>, usize);

impl SharderConfig for GivenShards {
    fn init(&self) -> Box<dyn Sharder> {
        Box::new(self.clone())
    }
}

impl Sharder for GivenShards {
    fn shard(&mut self, _: &StreamKey, _: &[u8]) -> u64 {
        let shard = self.0[self.1 % self.0.len()];
        self.1 += 1;
        shard
    }
}

impl Producing {
    pub async fn create(config: &Value) -> Result<Self, Failure> {
        let streamer = connect(config).await?;
        let mut options = RedisProducerOptions::default();
        let sharder = &config["sharder"];
        if sharder.get("roundRobin").is_some() {
            options.set_sharder(RoundRobinSharder::new(number(sharder, "roundRobin")?));
        } else if sharder.get("pseudoRandom").is_some() {
            options.set_sharder(PseudoRandomSharder::new(number(sharder, "pseudoRandom")?));
        } else if sharder.get("given").is_some() {
            let numbers = list(sharder, "given")?.iter().map(|each| number(&json!({ "shard": each }), "shard"));
            options.set_sharder(GivenShards(numbers.collect::<Result<_, _>>()?, 0));
        }
        Ok(Self { producer: streamer.create_generic_producer(options).await? })
    }
}

impl Role for Producing {
    async fn run(&mut self, command: &Value) -> Result<Value, Failure> {
        let stream = StreamKey::new(text(command, "streamKey")?)?;
        match text(command, "op")? {
            "send" => {
                let mut sends = Vec::new();
                for message in list(command, "messages")? {
                    sends.push(self.producer.send_to(&stream, payload(message)?.as_slice())?);
                }
                let mut receipts = Vec::new();
                for send in sends {
                    receipts.push(header_json(&send.await?));
                }
                Ok(receipts.into())
            }
            "trimMaxLen" => Ok(self.producer.trim_stream_max_len(&stream, number(command, "maxLen")?).await?.into()),
            "trimMinTimestamp" => {
                Ok(self.producer.trim_stream_min_ts(&stream, timestamp(command, "nanoseconds")?).await?.into())
            }
            op => Err(format!("no command '{op}'").into()),
        }
    }
}
