use crate::json::{Failure, list, message_json, number, text, timestamp};
use crate::{Role, connect};
use sea_streamer_redis::{AutoCommit, AutoStreamReset, RedisConsumer, RedisConsumerOptions};
use sea_streamer_types::{
    Consumer, ConsumerGroup, ConsumerId, ConsumerMode, ConsumerOptions, SeqPos, ShardId, StreamKey, Streamer,
};
use serde_json::{Value, json};
use std::time::Duration;

/// `{ url, streamKeys, mode, group?, consumer?, autoStreamReset?, autoCommit?, autoCommitDelay?, autoCommitInterval?,
/// autoClaimInterval?, autoClaimIdle?, batchSize?, mkStream? }`, as the options of this package are named.
pub struct Consuming {
    consumer: Option<RedisConsumer>,
}

impl Consuming {
    pub async fn create(config: &Value) -> Result<Self, Failure> {
        let streamer = connect(config).await?;
        let streams = list(config, "streamKeys")?
            .iter()
            .map(|key| StreamKey::new(key.as_str().unwrap_or_default()))
            .collect::<Result<Vec<_>, _>>()?;
        let consumer = streamer.create_consumer(&streams, options(config)?).await?;
        Ok(Self { consumer: Some(consumer) })
    }

    pub fn describe(&self) -> Value {
        let Some(consumer) = &self.consumer else { return Value::Null };
        let shard = |(stream, shard): &(StreamKey, ShardId)| json!([stream.name(), shard.id().to_string()]);
        json!({
            "group": consumer.group_id().map(|group| group.name()),
            "consumer": consumer.consumer_id().map(|consumer| consumer.id()),
            "streamShards": consumer.stream_shards().iter().map(shard).collect::<Vec<_>>(),
        })
    }
}

fn options(config: &Value) -> Result<RedisConsumerOptions, Failure> {
    let mut options = RedisConsumerOptions::new(match text(config, "mode")? {
        "real-time" => ConsumerMode::RealTime,
        "resumable" => ConsumerMode::Resumable,
        "load-balanced" => ConsumerMode::LoadBalanced,
        mode => return Err(format!("no mode '{mode}'").into()),
    });
    let duration = |name| number(config, name).map(Duration::from_millis);
    for (name, value) in config.as_object().ok_or("no configuration")? {
        let word = value.as_str().unwrap_or_default();
        match name.as_str() {
            "group" => drop(options.set_consumer_group(ConsumerGroup::new(word))?),
            "consumer" => drop(options.set_consumer_id(ConsumerId::new(word))),
            "autoStreamReset" => drop(options.set_auto_stream_reset(match word {
                "earliest" => AutoStreamReset::Earliest,
                _ => AutoStreamReset::Latest,
            })),
            "autoCommit" => drop(options.set_auto_commit(match word {
                "immediate" => AutoCommit::Immediate,
                "delayed" => AutoCommit::Delayed,
                "rolling" => AutoCommit::Rolling,
                _ => AutoCommit::Disabled,
            })),
            "autoCommitDelay" => drop(options.set_auto_commit_delay(duration(name)?)),
            "autoCommitInterval" => drop(options.set_auto_commit_interval(duration(name)?)),
            "autoClaimInterval" => drop(options.set_auto_claim_interval(duration(name).ok())),
            "autoClaimIdle" => drop(options.set_auto_claim_idle(duration(name)?)),
            "batchSize" => drop(options.set_batch_size(number(config, name)?)),
            "mkStream" => drop(options.set_mkstream(value.as_bool().unwrap_or_default())),
            _ => (),
        }
    }
    Ok(options)
}

impl Role for Consuming {
    async fn run(&mut self, command: &Value) -> Result<Value, Failure> {
        let consumer = self.consumer.as_mut().ok_or("ended")?;
        match text(command, "op")? {
            // Returns when there are `count` messages, or when none arrives within `patience`.
            "next" => {
                let patience = Duration::from_millis(number(command, "patience")?);
                let mut messages = Vec::new();
                while messages.len() < number(command, "count")? {
                    let Ok(message) = tokio::time::timeout(patience, consumer.next()).await else { break };
                    messages.push(message_json(&message?));
                }
                Ok(messages.into())
            }
            "ack" => {
                for message in list(command, "messages")? {
                    let stream = StreamKey::new(text(message, "streamKey")?)?;
                    let shard = ShardId::new(number(message, "shardId")?);
                    consumer.ack_with(&(stream, shard, number(message, "sequence")?))?;
                }
                Ok(Value::Null)
            }
            "commit" => Ok(consumer.commit()?.await.map(|()| Value::Null)?),
            "commitAsap" => Ok(consumer.commit_asap().map(|()| Value::Null)?),
            "seek" => Ok(consumer.seek(timestamp(command, "nanoseconds")?).await.map(|()| Value::Null)?),
            "rewind" => {
                let to = match command["to"].as_str() {
                    Some("beginning") => SeqPos::Beginning,
                    Some("end") => SeqPos::End,
                    _ => SeqPos::At(number(command, "sequence")?),
                };
                Ok(consumer.rewind(to).await.map(|()| Value::Null)?)
            }
            "end" => {
                let consumer = self.consumer.take().ok_or("ended")?;
                Ok(consumer.end().await.map(|()| Value::Null)?)
            }
            op => Err(format!("no command '{op}'").into()),
        }
    }
}
