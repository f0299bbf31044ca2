use crate::{Failure, Job};
use sea_streamer_redis::RedisProducer;
use sea_streamer_types::Producer;
use std::collections::VecDeque;

const IN_FLIGHT: usize = 4_000;

/// Drops every receipt, and flushes once.
pub async fn send(producer: &mut RedisProducer, job: &Job) -> Result<(), Failure> {
    for _ in 0..job.messages {
        drop(producer.send_to(&job.key, job.payload.as_slice())?);
    }
    Ok(producer.flush().await?)
}

/// Awaits every receipt, with so many messages in flight.
pub async fn send_awaited(producer: &RedisProducer, job: &Job) -> Result<(), Failure> {
    let mut receipts = VecDeque::with_capacity(IN_FLIGHT);
    for sent in 0..job.messages {
        if sent >= IN_FLIGHT {
            receipts.pop_front().ok_or("no receipt")?.await?;
        }
        receipts.push_back(producer.send_to(&job.key, job.payload.as_slice())?);
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}
