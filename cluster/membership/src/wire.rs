//! Members and gossip as bytes. Datagrams come from the network: nothing here may panic, whatever it
//! is given.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::{Codec, Header, Message, State};

use crate::{Member, Role, node::Node};

/// The longest id; longer ones would not leave room for others in a datagram.
pub(crate) const ID_BYTES_MAX: usize = 100;

/// Bytes that are not what they should be, or no room for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Short,
    /// A field has a value that it cannot have.
    #[error("{0} has an impossible value")]
    Value(&'static str),
    /// The value to be written does not fit.
    #[error("no room")]
    Full,
}

impl Member {
    /// The member as bytes, for a row in the store.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_member(&mut out, self);
        out.freeze()
    }

    /// Reads what [`Member::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, WireError> {
        get_member(&mut bytes)
    }
}

fn put_member(out: &mut BytesMut, member: &Member) {
    let id = &member.id.as_bytes()[..member.id.len().min(usize::from(u8::MAX))];
    out.put_u8(id.len() as u8);
    out.put_slice(id);
    out.put_u64(member.incarnation);
    put_address(out, member.gossip);
    out.put_u8(member.roles.len().min(Role::ALL.len()) as u8);
    for (role, at) in member.roles.iter().take(Role::ALL.len()) {
        out.put_u8(role.index() as u8);
        put_address(out, *at);
    }
}

fn get_member(buf: &mut impl Buf) -> Result<Member, WireError> {
    let mut id = vec![0; usize::from(get_u8(buf)?)];
    need(buf, id.len())?;
    buf.copy_to_slice(&mut id);
    let id = String::from_utf8(id).map_err(|_| WireError::Value("id"))?;
    need(buf, 8)?;
    let incarnation = buf.get_u64();
    let gossip = get_address(buf)?;
    let count = usize::from(get_u8(buf)?);
    if count > Role::ALL.len() {
        return Err(WireError::Value("number of roles"));
    }
    let mut roles = Vec::with_capacity(count);
    for _ in 0..count {
        let role = Role::ALL
            .get(usize::from(get_u8(buf)?))
            .ok_or(WireError::Value("role"))?;
        roles.push((*role, get_address(buf)?));
    }
    Ok(Member {
        id,
        gossip,
        roles,
        incarnation,
    })
}

fn put_address(out: &mut BytesMut, at: SocketAddr) {
    match at.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(at.port());
}

fn get_address(buf: &mut impl Buf) -> Result<SocketAddr, WireError> {
    let ip = match get_u8(buf)? {
        4 => {
            let mut octets = [0; 4];
            need(buf, octets.len())?;
            buf.copy_to_slice(&mut octets);
            IpAddr::from(octets)
        }
        6 => {
            let mut octets = [0; 16];
            need(buf, octets.len())?;
            buf.copy_to_slice(&mut octets);
            IpAddr::from(octets)
        }
        _ => return Err(WireError::Value("address")),
    };
    Ok(SocketAddr::new(ip, get_u16(buf)?))
}

fn need(buf: &impl Buf, bytes: usize) -> Result<(), WireError> {
    if buf.remaining() < bytes {
        Err(WireError::Short)
    } else {
        Ok(())
    }
}

fn get_u8(buf: &mut impl Buf) -> Result<u8, WireError> {
    need(buf, 1)?;
    Ok(buf.get_u8())
}

fn get_u16(buf: &mut impl Buf) -> Result<u16, WireError> {
    need(buf, 2)?;
    Ok(buf.get_u16())
}

/// Writes what foca says.
#[derive(Debug, Default)]
pub(crate) struct GossipCodec {
    /// Things are written here first, since a buffer without room must stay clean.
    scratch: BytesMut,
}

impl GossipCodec {
    fn flush(&mut self, mut buf: impl BufMut) -> Result<(), WireError> {
        let fits = buf.remaining_mut() >= self.scratch.len();
        if fits {
            buf.put_slice(&self.scratch);
        }
        self.scratch.clear();
        if fits { Ok(()) } else { Err(WireError::Full) }
    }
}

impl Codec<Node> for GossipCodec {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Node>, buf: impl BufMut) -> Result<(), WireError> {
        let out = &mut self.scratch;
        put_member(out, &header.src);
        out.put_u16(header.src_incarnation);
        put_member(out, &header.dst);
        let (tag, node, probe) = match &header.message {
            Message::Ping(n) => (0, None, Some(*n)),
            Message::Ack(n) => (1, None, Some(*n)),
            Message::PingReq {
                target,
                probe_number,
            } => (2, Some(target), Some(*probe_number)),
            Message::IndirectPing {
                origin,
                probe_number,
            } => (3, Some(origin), Some(*probe_number)),
            Message::IndirectAck {
                target,
                probe_number,
            } => (4, Some(target), Some(*probe_number)),
            Message::ForwardedAck {
                origin,
                probe_number,
            } => (5, Some(origin), Some(*probe_number)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Broadcast => (9, None, None),
            Message::TurnUndead => (10, None, None),
        };
        out.put_u8(tag);
        if let Some(node) = node {
            put_member(out, node);
        }
        if let Some(probe) = probe {
            out.put_u8(probe);
        }
        self.flush(buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Node>, WireError> {
        let buf = &mut buf;
        let src = Node::new(get_member(buf)?);
        let src_incarnation = get_u16(buf)?;
        let dst = Node::new(get_member(buf)?);
        let tag = get_u8(buf)?;
        let message = match tag {
            0 => Message::Ping(get_u8(buf)?),
            1 => Message::Ack(get_u8(buf)?),
            2..=5 => {
                let node = Node::new(get_member(buf)?);
                let probe_number = get_u8(buf)?;
                match tag {
                    2 => Message::PingReq {
                        target: node,
                        probe_number,
                    },
                    3 => Message::IndirectPing {
                        origin: node,
                        probe_number,
                    },
                    4 => Message::IndirectAck {
                        target: node,
                        probe_number,
                    },
                    _ => Message::ForwardedAck {
                        origin: node,
                        probe_number,
                    },
                }
            }
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            10 => Message::TurnUndead,
            _ => return Err(WireError::Value("message")),
        };
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<Node>,
        buf: impl BufMut,
    ) -> Result<(), WireError> {
        put_member(&mut self.scratch, member.id());
        self.scratch.put_u16(member.incarnation());
        self.scratch.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        self.flush(buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<foca::Member<Node>, WireError> {
        let node = Node::new(get_member(&mut buf)?);
        let incarnation = get_u16(&mut buf)?;
        let state = match get_u8(&mut buf)? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(WireError::Value("state")),
        };
        Ok(foca::Member::new(node, incarnation, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_survive_and_broken_bytes_are_refused() {
        let member = Member {
            id: "0f".repeat(18),
            gossip: "[::1]:6934".parse().unwrap(),
            roles: vec![(Role::History, ([127, 0, 0, 1], 7234).into())],
            incarnation: u64::MAX,
        };
        let bytes = member.encode();
        assert_eq!(Member::decode(&bytes), Ok(member.clone()));
        for end in 0..bytes.len() {
            assert_eq!(Member::decode(&bytes[..end]), Err(WireError::Short));
        }
        // Any other byte anywhere must lead to an answer, not to a panic.
        for at in 0..bytes.len() {
            for other in 0..=u8::MAX {
                let mut broken = bytes.to_vec();
                broken[at] = other;
                let _ = Member::decode(&broken);
            }
        }
        let mut codec = GossipCodec::default();
        let mut narrow = [0_u8; 20];
        let known = foca::Member::alive(Node::new(member));
        assert_eq!(
            codec.encode_member(&known, &mut narrow[..]),
            Err(WireError::Full)
        );
        assert_eq!(narrow, [0; 20]);
    }
}
