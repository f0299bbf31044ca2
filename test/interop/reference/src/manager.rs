use crate::json::{Failure, message_json, number, text, timestamp};
use crate::{Role, connect};
use sea_streamer_redis::{IdRange, RedisManager};
use sea_streamer_types::StreamKey;
use serde_json::{Value, json};

/// `{ url }`
pub struct Managing {
    manager: RedisManager,
}

impl Managing {
    pub async fn create(config: &Value) -> Result<Self, Failure> {
        Ok(Self { manager: connect(config).await?.create_manager().await? })
    }
}

/// `-`, `+`, or nanoseconds.
fn bound(command: &Value, name: &str) -> Result<IdRange, Failure> {
    Ok(match command[name].as_str() {
        Some("-") => IdRange::Minus,
        Some("+") => IdRange::Plus,
        _ => IdRange::Ts(timestamp(command, name)?),
    })
}

impl Role for Managing {
    async fn run(&mut self, command: &Value) -> Result<Value, Failure> {
        match text(command, "op")? {
            "scan" => {
                let page = self.manager.scan(text(command, "cursor")?).await?;
                Ok(json!({ "cursor": page.cursor, "streams": page.streams }))
            }
            "range" => {
                let stream = StreamKey::new(text(command, "streamKey")?)?;
                let (from, to) = (bound(command, "from")?, bound(command, "to")?);
                let messages = self.manager.range(stream, from, to, number(command, "count").ok()).await?;
                Ok(messages.iter().map(message_json).collect::<Vec<_>>().into())
            }
            op => Err(format!("no command '{op}'").into()),
        }
    }
}
