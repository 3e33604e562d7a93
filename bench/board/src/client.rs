//! A WebSocket client that costs next to nothing: sockets that do not block, one thread for thousands of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use memchr::memmem;
use mio::{Events, Interest, Poll, Token};

const HANDSHAKE: Duration = Duration::from_secs(20);
const HEAD_END: &[u8] = b"\r\n\r\n";
const READ: usize = 64 * 1024;
pub const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a relay says, as far as a benchmark wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Event,
    Accepted,
    Refused,
    EndOfStored,
    /// The relay will not, or no longer, answer a subscription.
    Closed,
    Reconciliation,
    /// NOTICE, AUTH and everything else.
    Other,
}

impl Word {
    /// Of a whole message.
    pub fn of(message: &[u8]) -> Word {
        match message {
            m if m.starts_with(b"[\"EVENT\"") => Word::Event,
            m if m.starts_with(b"[\"OK\"") && memmem::find(m, b",true").is_some() => Word::Accepted,
            m if m.starts_with(b"[\"OK\"") => Word::Refused,
            m if m.starts_with(b"[\"EOSE\"") => Word::EndOfStored,
            m if m.starts_with(b"[\"CLOSED\"") => Word::Closed,
            m if m.starts_with(b"[\"NEG-MSG\"") => Word::Reconciliation,
            _ => Word::Other,
        }
    }
}

/// The first member `name` of the message that is a string, without its escapes undone.
pub fn member<'a>(message: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let start = memmem::find(message, format!("\"{name}\":\"").as_bytes())? + name.len() + 4;
    let length = memchr::memchr(b'"', &message[start..])?;
    Some(&message[start..start + length])
}

/// The first member `name` of the message that is a number.
pub fn number(message: &[u8], name: &str) -> Option<u64> {
    let start = memmem::find(message, format!("\"{name}\":").as_bytes())? + name.len() + 3;
    let digits = message[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&message[start..start + digits]).ok()?.parse().ok()
}

/// Appends a frame of a client. The mask is zero, so that masking costs nothing.
pub fn frame(operation: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    out.push(0x80 | operation);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => out.push(0x80 | short),
        (_, Ok(medium)) => {
            out.push(0x80 | 126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Whom a client says that it speaks for, as a proxy does; nobody for one that comes as itself.
pub type SpeaksFor = Option<Ipv4Addr>;

/// What asks a server at `address` for a WebSocket.
pub fn greeting(address: SocketAddr, of: SpeaksFor) -> String {
    let of = of.map(|of| format!("X-Forwarded-For: {of}\r\n")).unwrap_or_default();
    format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{of}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

pub struct Client {
    socket: mio::net::TcpStream,
    input: Vec<u8>,
    /// How much of the input was read.
    read: usize,
    output: Vec<u8>,
    written: usize,
    open: bool,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Client> {
        Client::speak_for(None, address)
    }

    /// The same, as a proxy of whom it speaks for.
    pub fn speak_for(of: SpeaksFor, address: SocketAddr) -> Result<Client> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(HANDSHAKE))?;
        socket.write_all(greeting(address, of).as_bytes())?;
        let (mut input, mut piece) = (Vec::new(), [0; 4_096]);
        let end = loop {
            let length = socket.read(&mut piece).context("handshake")?;
            input.extend_from_slice(&piece[..length]);
            match memmem::find(&input, HEAD_END) {
                Some(end) => break end + HEAD_END.len(),
                None if length == 0 => bail!("closed during the handshake"),
                None => {}
            }
        };
        if !input.starts_with(b"HTTP/1.1 101") {
            bail!("no WebSocket: {}", String::from_utf8_lossy(&input));
        }
        socket.set_nonblocking(true)?;
        let socket = mio::net::TcpStream::from_std(socket);
        Ok(Client { socket, input, read: end, output: Vec::new(), written: 0, open: true })
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Queues a message that is the parts one after another. [`Client::flush`] sends it.
    pub fn say(&mut self, parts: &[&[u8]]) {
        frame(TEXT, parts, &mut self.output);
    }

    /// Queues bytes as they are.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Sends what can be sent now.
    pub fn flush(&mut self) {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.open = false,
            }
        }
        self.output.clear();
        self.written = 0;
    }

    /// Takes in what has arrived.
    fn fill(&mut self) {
        self.input.drain(..self.read);
        self.read = 0;
        let mut piece = [0; READ];
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) => return self.open = false,
                Ok(length) => self.input.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.open = false,
            }
        }
    }

    /// A message that was heard.
    pub fn message(&self, range: Range<usize>) -> &[u8] {
        &self.input[range]
    }

    /// Where the next whole message lies in the input. Answers pings on the way.
    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let rest = &self.input[self.read..];
            let (operation, short) = (rest.first()? & 15, rest.get(1)? & 127);
            let (head, length) = match short {
                126 => (4, u64::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?))),
                127 => (10, u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?)),
                short => (2, u64::from(short)),
            };
            let end = head + usize::try_from(length).ok()?;
            rest.get(..end)?;
            let payload = self.read + head..self.read + end;
            self.read += end;
            match operation {
                PING => {
                    let payload = self.input[payload].to_vec();
                    frame(PONG, &[&payload], &mut self.output);
                }
                CLOSE => {
                    self.open = false;
                    return None;
                }
                _ => return Some(payload),
            }
        }
    }
}

/// Many connections of one thread.
pub struct Crowd {
    poll: Poll,
    ready: Events,
    pub clients: Vec<Client>,
}

impl Crowd {
    pub fn connect(address: SocketAddr, count: usize) -> Result<Crowd> {
        Crowd::speak_for(&vec![None; count], address)
    }

    /// A client for each of those that are spoken for.
    pub fn speak_for(of: &[SpeaksFor], address: SocketAddr) -> Result<Crowd> {
        let mut crowd = Crowd { poll: Poll::new()?, ready: Events::with_capacity(1_024), clients: Vec::new() };
        for of in of {
            crowd.join(Client::speak_for(*of, address)?)?;
        }
        Ok(crowd)
    }

    pub fn join(&mut self, mut client: Client) -> io::Result<()> {
        let token = Token(self.clients.len());
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut client.socket, token, both)?;
        self.clients.push(client);
        Ok(())
    }

    pub fn all_open(&self) -> bool {
        self.clients.iter().all(Client::is_open)
    }

    /// Waits for something to happen, at most `patience`. Hands every message that has arrived to `heard`, with the number
    /// of its client; what `heard` says is sent.
    pub fn turn(&mut self, patience: Duration, mut heard: impl FnMut(usize, &mut Client, Range<usize>)) -> Result<()> {
        self.poll.poll(&mut self.ready, Some(patience)).or_else(|error| match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            _ => Err(error),
        })?;
        for event in &self.ready {
            let Token(number) = event.token();
            let client = &mut self.clients[number];
            if event.is_readable() && client.open {
                client.fill();
                while let Some(message) = client.next() {
                    heard(number, client, message);
                }
            }
            client.flush();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_have_their_heads() {
        for (length, head) in
            [(5, vec![0x81, 0x85]), (300, vec![0x81, 0xfe, 1, 44]), (65_536, vec![0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0])]
        {
            let mut out = Vec::new();
            frame(TEXT, &[&vec![b'x'; length - 1], b"y"], &mut out);
            assert!(out.starts_with(&head));
            assert_eq!(out.len(), head.len() + 4 + length);
        }
    }

    #[test]
    fn words_and_members_are_read_from_messages() {
        assert_eq!(Word::of(b"[\"OK\",\"ab\",true,\"\"]"), Word::Accepted);
        assert_eq!(Word::of(b"[\"OK\",\"ab\",false,\"invalid: \"]"), Word::Refused);
        assert_eq!(Word::of(b"[\"AUTH\",\"x\"]"), Word::Other);
        assert_eq!(member(b"[\"EVENT\",\"a\",{\"id\":\"0f\",\"kind\":1}]", "id"), Some(&b"0f"[..]));
        assert_eq!(member(b"[]", "id"), None);
        assert_eq!(number(b"{\"created_at\":17,\"kind\":1}", "created_at"), Some(17));
    }
}
