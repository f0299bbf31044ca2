use crate::json::{Failure, header_json, list, message_json, number, payload, text, timestamp};
use sea_streamer_file::{FileErr, FileId, MessageSink, MessageSource, StreamMode, is_end_of_stream};
use sea_streamer_types::{MessageHeader, OwnedMessage, ShardId, StreamKey};
use serde_json::{Value, json};

/// `{ file }`: the content of a file. `beacons` has each beacon once, as the source reports it.
pub async fn decode(config: &Value) -> Result<Value, Failure> {
    let mut source = MessageSource::new(FileId::new(text(config, "file")?), StreamMode::Replay).await?;
    let header = source.file_header();
    let header = json!({
        "fileName": header.file_name,
        "nanoseconds": header.created_at.unix_timestamp_nanos().to_string(),
        "beaconInterval": header.beacon_interval,
    });
    let (mut messages, mut beacons, mut seen, mut has_end) = (Vec::new(), Vec::new(), 0, false);
    loop {
        let message = match source.next().await {
            Ok(message) => message.message.to_shared(),
            Err(FileErr::NotEnoughBytes) => break,
            Err(error) => return Err(error.into()),
        };
        let (number, markers) = source.beacon();
        if number != seen {
            seen = number;
            let marker = |marker: &sea_streamer_file::format::Marker| {
                json!({ "header": header_json(&marker.header), "checksum": marker.running_checksum.0 })
            };
            beacons.push(json!({ "number": number, "markers": markers.iter().map(marker).collect::<Vec<_>>() }));
        }
        if is_end_of_stream(&message) {
            has_end = true;
            break;
        }
        messages.push(message_json(&message));
    }
    Ok(json!({ "header": header, "messages": messages, "beacons": beacons, "hasEnd": has_end }))
}

/// `{ file, beaconInterval, messages, end }`
pub async fn encode(config: &Value) -> Result<Value, Failure> {
    let file = FileId::new(text(config, "file")?);
    let mut sink = MessageSink::new(file, number(config, "beaconInterval")?, u64::MAX).await?;
    for message in list(config, "messages")? {
        let header = MessageHeader::new(
            StreamKey::new(text(message, "streamKey")?)?,
            ShardId::new(number(message, "shardId")?),
            number(message, "sequence")?,
            timestamp(message, "nanoseconds")?,
        );
        sink.write(OwnedMessage::new(header, payload(message)?))?;
    }
    sink.flush().await?;
    if config["end"].as_bool().unwrap_or_default() {
        sink.end(true).await?;
    }
    Ok(Value::Null)
}
