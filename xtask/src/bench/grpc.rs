//! A gRPC call in the fewest bytes that a server accepts. A client library would take longer than the providers that
//! are measured, and its time would count for both.

use std::io::{Read, Write};

use anyhow::{Result, bail};

/// Frame types and flags: RFC 9113, sections 6.1 to 6.9.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// As many bytes as either side may send unasked: a reply needs no further word of ours.
const WINDOW: u32 = 1 << 28;

/// Makes an empty request over the connection and reads the reply to its end. Returns how many bytes its message has.
pub(crate) fn call(mut connection: impl Read + Write, method: &str) -> Result<usize> {
    connection.write_all(&request(method))?;
    let mut reply = 0;
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head)?;
        let [a, b, c, kind, flags, ..] = head;
        body.resize(u32::from_be_bytes([0, a, b, c]) as usize, 0);
        connection.read_exact(&mut body)?;
        match kind {
            DATA => reply += body.len(),
            RST_STREAM | GOAWAY => bail!("{method} was broken off after {reply} bytes"),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            // A message's five bytes of length come first; an error has no message.
            return match reply.checked_sub(5) {
                Some(message) => Ok(message),
                None => bail!("{method} was answered without a message"),
            };
        }
    }
}

/// All that a client says: its preface, its windows, and the call.
fn request(method: &str) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let initial_window = [&[0, 4][..], &WINDOW.to_be_bytes()].concat();
    frame(&mut bytes, SETTINGS, 0, 0, &initial_window);
    frame(&mut bytes, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
    // `:method: POST` and `:scheme: http` of HPACK's static table (RFC 7541, appendix A).
    let mut headers = vec![0x83, 0x86];
    let more = [
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in more {
        headers.push(0);
        text(&mut headers, name);
        text(&mut headers, value);
    }
    frame(&mut bytes, HEADERS, END_HEADERS, 1, &headers);
    frame(&mut bytes, DATA, END_STREAM, 1, &[0; 5]);
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(body);
}

/// A string as it is, shorter than 127 bytes.
fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(text.as_bytes());
}
