use sea_streamer_types::{Buffer, Message, MessageHeader, SharedMessage, Timestamp};
use serde_json::{Value, json};

pub type Failure = Box<dyn std::error::Error>;

pub fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Failure> {
    Ok(value[name].as_str().ok_or(format!("no text '{name}'"))?)
}

/// A number, or a string of digits.
pub fn number<T: std::str::FromStr>(value: &Value, name: &str) -> Result<T, Failure> {
    let digits = match &value[name] {
        Value::String(digits) => digits.clone(),
        other => other.to_string(),
    };
    digits.parse().map_err(|_| format!("no number '{name}': {digits}").into())
}

pub fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>, Failure> {
    Ok(value[name].as_array().ok_or(format!("no list '{name}'"))?)
}

pub fn payload(value: &Value) -> Result<Vec<u8>, Failure> {
    let hex = text(value, "payload")?;
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
    Ok((0..hex.len()).step_by(2).map(byte).collect::<Result<_, _>>()?)
}

pub fn timestamp(value: &Value, name: &str) -> Result<Timestamp, Failure> {
    Ok(Timestamp::from_unix_timestamp_nanos(number(value, name)?)?)
}

pub fn header_json(header: &MessageHeader) -> Value {
    json!({
        "streamKey": header.stream_key().name(),
        "shardId": header.shard_id().id().to_string(),
        "sequence": header.sequence().to_string(),
        "nanoseconds": header.timestamp().unix_timestamp_nanos().to_string(),
    })
}

pub fn message_json(message: &SharedMessage) -> Value {
    let mut json = header_json(message.header());
    let bytes = message.message().into_bytes();
    json["payload"] = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    json
}
