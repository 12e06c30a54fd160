//! An echo server of u32be frames as one writes it with tokio: `LengthDelimitedCodec`, a task for each connection.
//!
//! Answers leave when no further frame is ready, so that frames that came together are sent together. `Framed` would send them
//! from 8 KiB on, which costs half as much again with frames of 16 KiB; so the codec encodes into a buffer of our own.

use bytes::BytesMut;
use futures::{FutureExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Encoder, FramedRead, LengthDelimitedCodec};

const BUFFER_SIZE: usize = 256 << 10;
const MAX_PAYLOAD: usize = 16 << 20;

async fn echo(mut peer: TcpStream) -> std::io::Result<()> {
    peer.set_nodelay(true)?;
    let mut codec = LengthDelimitedCodec::builder().max_frame_length(MAX_PAYLOAD).new_codec();
    let (reader, mut writer) = peer.split();
    let mut payloads = FramedRead::with_capacity(reader, codec.clone(), BUFFER_SIZE);
    let mut answers = BytesMut::with_capacity(BUFFER_SIZE);
    while let Some(payload) = payloads.next().await {
        codec.encode(payload?.freeze(), &mut answers)?;
        while answers.len() < BUFFER_SIZE {
            match payloads.next().now_or_never() {
                Some(Some(payload)) => codec.encode(payload?.freeze(), &mut answers)?,
                _ => break,
            }
        }
        writer.write_all_buf(&mut answers).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (peer, _) = listener.accept().await?;
        tokio::spawn(echo(peer));
    }
}
