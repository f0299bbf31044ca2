use crate::{Failure, Job};
use sea_streamer_redis::{AutoCommit, AutoStreamReset, RedisConsumer, RedisConsumerOptions, RedisStreamer};
use sea_streamer_types::{Buffer, Consumer, ConsumerMode, ConsumerOptions, Message, SharedMessage, Streamer};

/// Acknowledges each message; they are committed while it reads on, the rest when the returned consumer ends. Its end may
/// wait until a blocked read is over, up to 10 s.
pub async fn rolling(streamer: &RedisStreamer, job: &Job) -> Result<RedisConsumer, Failure> {
    let consumer = join(streamer, job, AutoCommit::Rolling).await?;
    for _ in 0..job.messages {
        consumer.ack(&next(&consumer, job).await?)?;
    }
    Ok(consumer)
}

/// Acknowledges each message, and waits for a commit after every so many.
pub async fn commit_every(streamer: &RedisStreamer, job: &Job, every: usize) -> Result<(), Failure> {
    let mut consumer = join(streamer, job, AutoCommit::Disabled).await?;
    for seen in 1..=job.messages {
        consumer.ack(&next(&consumer, job).await?)?;
        if seen % every == 0 {
            consumer.commit()?.await?;
        }
    }
    Ok(consumer.end().await?)
}

/// Reads without a group. The round does not wait for its end, which waits until a blocked read is over.
pub async fn tail(streamer: &RedisStreamer, job: &Job) -> Result<(), Failure> {
    let mut options = options(job, ConsumerMode::RealTime);
    options.set_auto_stream_reset(AutoStreamReset::Earliest);
    let consumer = streamer.create_consumer(std::slice::from_ref(&job.key), options).await?;
    for _ in 0..job.messages {
        next(&consumer, job).await?;
    }
    tokio::spawn(consumer.end());
    Ok(())
}

async fn join(streamer: &RedisStreamer, job: &Job, commit: AutoCommit) -> Result<RedisConsumer, Failure> {
    let mut options = options(job, ConsumerMode::LoadBalanced);
    options.set_consumer_group(job.group.clone())?;
    options.set_auto_commit(commit);
    Ok(streamer.create_consumer(std::slice::from_ref(&job.key), options).await?)
}

fn options(job: &Job, mode: ConsumerMode) -> RedisConsumerOptions {
    let mut options = RedisConsumerOptions::new(mode);
    if job.batch > 0 {
        options.set_batch_size(job.batch);
    }
    options
}

async fn next(consumer: &RedisConsumer, job: &Job) -> Result<SharedMessage, Failure> {
    let message = consumer.next().await?;
    if message.message().size() != job.payload.len() {
        return Err("a payload is not as long as it should be".into());
    }
    Ok(message)
}
