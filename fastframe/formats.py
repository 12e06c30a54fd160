"""The frames of real protocols, ready to use: `Decoder(formats.KAFKA)`, or by name: `BY_NAME["kafka"]`.

Under each format stand its bytes in one line, the limit and whose it is, and the source. Lengths in a drawing count what stands
behind them, unless it says otherwise. What a payload is follows two rules:

- Where the length field comes first, or behind bytes that are always the same, it is stripped: a payload is what follows.
- Where bytes that mean something stand before it, such as a message's type, nothing is stripped. A payload is the whole frame,
  and an encoder checks the length in it. A BSON document is such a payload too: its length is part of it.

A format says where a frame ends, no more: magic numbers, versions and checksums are for who reads the payload. A limit is what
the protocol or its reference implementation allows, which may be more than you expect:
`dataclasses.replace(KAFKA, max_payload_length=1 << 20)` lowers it.

Not here, because a FrameFormat cannot say them:

- Redis (RESP): lines and decimal lengths, in arrays of arrays. Memcached's and NATS' text protocols: lines too.
- WebSocket, CoAP over TCP: a length of 7 or 4 bits that says how wide the length is.
- ZeroMQ (ZMTP): a flag tells whether the length has 1 or 8 bytes.
- LDAP and all else in BER: the first byte of the length tells how wide it is.
- HTTP/3, QUIC: the first two bits of a varint tell how wide it is.
- FastCGI, D-Bus: two lengths in one header, and padding.
- ONC RPC record marking (NFS): the length field's first bit is a flag.
- git's pkt-line: the length is four hexadecimal digits.
- HTTP/1, LSP, DAP: the length is a line of text, `Content-Length`. Syslog (RFC 6587): decimal digits and a space.
- SSH: the length is encrypted after the first few packets. RTSP: frames between lines of text.
- TURN's channel data over TCP: padded to 4 bytes, which the length leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ._format import MAX_MEMORY, FrameFormat

_2_GIB: Final = min((1 << 31) - 1, MAX_MEMORY)  # the largest i32; half of it where memory has 32 bits

# Databases

POSTGRESQL: Final = FrameFormat(
    "i32be", length_field_offset=1, length_adjustment=-4, initial_bytes_to_strip=0, max_payload_length=(1 << 30) - 1
)
"""PostgreSQL, after the start-up: `type u8 | length i32be, itself included | message`. The payload is all of it, for the type.

A server answers an SSLRequest with one byte that is no frame. Limit: a server's `MaxAllocSize`, 1 GiB - 1.
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

POSTGRESQL_STARTUP: Final = FrameFormat("i32be", length_adjustment=-4, max_payload_length=10_000)
"""PostgreSQL, what a client says first: `length i32be, itself included | code i32be | parameters`.

The payload begins at the code: StartupMessage, SSLRequest, GSSENCRequest and CancelRequest have no type byte. Limit: a
server's `MAX_STARTUP_PACKET_LENGTH`, 10,000.
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

MYSQL: Final = FrameFormat("u24le", length_adjustment=1, max_payload_length=1 << 24)
"""MySQL, MariaDB: `length u24le, of the data | sequence number u8 | data`. The payload is the sequence number and the data.

Limit: all that the length can say. Data of 2**24 - 1 bytes goes on in the next frame, and ends in a shorter one.
https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html
"""

MONGODB: Final = FrameFormat("i32le", length_adjustment=-4, max_payload_length=48_000_000 - 4)
"""MongoDB: `length i32le, itself included | request id i32le | response to i32le | opcode i32le | message`.

The payload begins at the request id. Limit: 48 MB with the length, a server's `maxMessageSizeBytes`.
https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

BSON: Final = FrameFormat("i32le", length_adjustment=-4, initial_bytes_to_strip=0, max_payload_length=(16 << 20) - 4)
"""BSON documents, one behind another as in a dump: `length i32le, itself included | elements | 00`.

The payload is the document with its length, without which it is none. Limit: MongoDB's 16 MiB with the length.
https://bsonspec.org/spec.html
"""

CASSANDRA: Final = FrameFormat("i32be", length_field_offset=5, initial_bytes_to_strip=0, max_payload_length=256 << 20)
"""Cassandra, CQL protocol 3 and 4: `version u8 | flags u8 | stream i16be | opcode u8 | length i32be | body`.

The payload is all of it, for the opcode. Version 5 puts other frames around these once the connection is set up. Limit: 256 MB.
https://github.com/apache/cassandra/blob/trunk/doc/native_protocol_v4.spec (section 2)
"""

TDS: Final = FrameFormat(
    "u16be", length_field_offset=2, length_adjustment=-4, initial_bytes_to_strip=0, max_payload_length=32_767 - 4
)
"""SQL Server: `type u8 | status u8 | length u16be, of all | process id u16be | number u8 | window u8 | data`.

The payload is all of it; the status tells where a message of several ends. Limit: 32,767 with the header, the largest packet.
MS-TDS, section 2.2.3.1: https://learn.microsoft.com/openspecs/windows_protocols/ms-tds/
"""

MEMCACHED_BINARY: Final = FrameFormat(
    "u32be", length_field_offset=8, length_adjustment=12, initial_bytes_to_strip=0, max_payload_length=12 + (1 << 20)
)
"""Memcached's binary protocol: `magic u8 | opcode u8 | ... | length u32be at 8, of the body | opaque u32 | cas u64 | body`.

The payload is all of it, with the header of 24 bytes. Limit: a body of 1 MiB, the default of `item_size_max`.
https://github.com/memcached/memcached/wiki/BinaryProtocolRevamped
"""

# Brokers and remote calls

KAFKA: Final = FrameFormat("i32be", max_payload_length=100 << 20)
"""Kafka: `length i32be | request or response`. Limit: 100 MiB, the default of `socket.request.max.bytes`.

https://kafka.apache.org/protocol.html#protocol_common
"""

PULSAR: Final = FrameFormat("u32be", max_payload_length=(5 << 20) + (10 << 10) - 4)
"""Pulsar: `length u32be | command length u32be | command | rest`. The payload begins at the command's length.

Limit: 5 MiB of message and 10 KiB around it, with the length (`MESSAGE_SIZE_FRAME_PADDING`).
https://pulsar.apache.org/docs/next/developing-binary-protocol/
"""

ZOOKEEPER: Final = FrameFormat("i32be", max_payload_length=0xFFFFF)
"""ZooKeeper: `length i32be | packet`. Limit: 1 MiB - 1, the default of `jute.maxbuffer`.

https://zookeeper.apache.org/doc/current/zookeeperAdmin.html
"""

MQTT: Final = FrameFormat(
    "varint", length_field_offset=1, initial_bytes_to_strip=0, max_varint_length=4, max_payload_length=(1 << 28) - 1
)
"""MQTT, every version: `type and flags u8 | length varint | packet`. The payload is all of it, for the type.

Limit: 268,435,455, the most that a varint of four bytes says.
MQTT 5.0, sections 1.5.5 and 2.1: https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html
"""

AMQP_0_9_1: Final = FrameFormat(
    "u32be", length_field_offset=3, length_adjustment=1, initial_bytes_to_strip=0, max_payload_length=131_072 - 7
)
"""AMQP 0-9-1 (RabbitMQ): `type u8 | channel u16be | length u32be | data | ce`. The payload is all of it, `ce` included.

A client says `AMQP 00 00 09 01` first, which is no frame. Limit: 128 KiB with header and `ce`, RabbitMQ's default `frame_max`.
Section 4.2.3: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf
"""

THRIFT_FRAMED: Final = FrameFormat("i32be", max_payload_length=16_384_000)
"""Thrift's framed transport: `length i32be | message`. Limit: the default of `maxFrameSize` in its libraries.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-rpc.md
"""

GRPC: Final = FrameFormat("u32be", length_field_offset=1, initial_bytes_to_strip=0, max_payload_length=4 << 20)
"""gRPC's messages in the data of an HTTP/2 stream: `compressed u8 | length u32be | message`.

The payload is all of it, for the flag. Limit: 4 MiB, what its libraries receive by default.
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

PROTOBUF_DELIMITED: Final = FrameFormat("varint", max_varint_length=5, max_payload_length=_2_GIB)
"""Protobuf's delimited messages (`writeDelimitedTo`, `serialize_length_prefixed`): `length varint | message`.

Limit: 2 GiB - 1, protobuf's own for a message.
https://protobuf.dev/programming-guides/techniques/#streaming
"""

SMPP: Final = FrameFormat("u32be", length_adjustment=-4, max_payload_length=70_000)
"""SMPP (text messages): `length u32be, itself included | command id u32be | status u32be | sequence number u32be | body`.

The payload begins at the command id. Limit: 64 KiB of `message_payload` (section 5.3.2.32) and room for the rest; the
specification names none. Section 3.2: https://smpp.org/SMPP_v3_4_Issue1_2.pdf
"""

# The web and the internet

DNS_TCP: Final = FrameFormat("u16be", max_payload_length=65_535)
"""DNS over TCP and over TLS: `length u16be | message`. RFC 1035, section 4.2.2; RFC 7766, section 8; RFC 7858, section 3.3."""

TLS_RECORD: Final = FrameFormat("u16be", length_field_offset=3, initial_bytes_to_strip=0, max_payload_length=(1 << 14) + 2048)
"""TLS: `type u8 | version u16be | length u16be | fragment`. The payload is all of it, for the type.

Limit: TLS 1.2's, 2**14 + 2048 (RFC 5246, section 6.2.3). TLS 1.3 allows 2**14 + 256 (RFC 8446, section 5.2).
"""

HTTP2: Final = FrameFormat("u24be", length_adjustment=6, max_payload_length=16_384 + 6)
"""HTTP/2: `length u24be, of the data | type u8 | flags u8 | stream u32be | data`. The payload begins at the type.

A client says a preface of 24 bytes first, which is no frame. Limit: 16,384 bytes of data, what a peer has to stay under until
`SETTINGS_MAX_FRAME_SIZE` allows more. RFC 9113, sections 3.4, 4.1 and 4.2.
"""

STUN_TCP: Final = FrameFormat("u16be", length_field_offset=2, length_adjustment=16, initial_bytes_to_strip=0)
"""STUN over TCP and TLS: `type u16be | length u16be, of the attributes | cookie u32be | transaction id, 12 bytes | attributes`.

The payload is all of it. Limit: all that the length can say. RFC 8489, sections 5 and 6.2.2.
"""

RFC4571: Final = FrameFormat("u16be", max_payload_length=65_535)
"""RTP, RTCP and ICE over TCP: `length u16be | packet`. RFC 4571, section 2; RFC 6544, section 3."""

BGP: Final = FrameFormat(
    "u16be", length_field_offset=16, length_adjustment=-18, max_payload_length=4096 - 18, leading=b"\xff" * 16
)
"""BGP: `marker, 16 times ff | length u16be, of all | type u8 | message`. The payload begins at the type.

Limit: 4096 with marker and length. RFC 4271, section 4.1; RFC 8654 allows 65,535 where both sides agree.
"""

DIAMETER: Final = FrameFormat(
    "u24be", length_field_offset=1, length_adjustment=-4, initial_bytes_to_strip=0, max_payload_length=(1 << 24) - 5
)
"""Diameter: `version u8 | length u24be, of all | flags u8 | command u24be | ... | AVPs`. The payload is all of it.

Limit: all that the length can say. RFC 6733, section 3.
"""

RADIUS_TCP: Final = FrameFormat(
    "u16be", length_field_offset=2, length_adjustment=-4, initial_bytes_to_strip=0, max_payload_length=4096 - 4
)
"""RADIUS over TCP and TLS: `code u8 | identifier u8 | length u16be, of all | authenticator, 16 bytes | attributes`.

The payload is all of it. Limit: 4096 with the header. RFC 2865, section 3; RFC 6613, section 2.
"""

IPFIX: Final = FrameFormat("u16be", length_field_offset=2, length_adjustment=-4, initial_bytes_to_strip=0)
"""IPFIX over TCP: `version u16be | length u16be, of all | export time u32be | ... | sets`. The payload is all of it.

Limit: all that the length can say. RFC 7011, sections 3.1 and 10.4.
"""

OPENFLOW: Final = FrameFormat("u16be", length_field_offset=2, length_adjustment=-4, initial_bytes_to_strip=0)
"""OpenFlow: `version u8 | type u8 | length u16be, of all | transaction id u32be | message`. The payload is all of it.

Limit: all that the length can say. OpenFlow 1.5.1, section 7.1.1:
https://opennetworking.org/wp-content/uploads/2014/10/openflow-switch-v1.5.1.pdf
"""

BITCOIN: Final = FrameFormat(
    "u32le", length_field_offset=16, length_adjustment=4, initial_bytes_to_strip=0, max_payload_length=4_000_000 + 4
)
"""Bitcoin: `network, 4 bytes | command, 12 bytes | length u32le, of the message | checksum, 4 bytes | message`.

The payload is all of it. Limit: 4,000,000 bytes of message, Bitcoin Core's `MAX_PROTOCOL_MESSAGE_LENGTH`.
https://developer.bitcoin.org/reference/p2p_networking.html#message-headers
"""

# Files, shells and tools

NINE_P: Final = FrameFormat("u32le", length_adjustment=-4, max_payload_length=(128 << 10) - 4)
"""9P: `size u32le, itself included | type u8 | tag u16le | message`. The payload begins at the type.

Limit: 128 KiB with the size, the `msize` that Linux offers. Plan 9 manual, intro(5): https://9p.io/sys/man/5/INDEX.html
"""

SMB_TCP: Final = FrameFormat("u24be", length_field_offset=1, max_payload_length=(1 << 24) - 1)
"""SMB over TCP, port 445: `00 | length u24be | message`. The payload is the message. Limit: all that the length can say.

MS-SMB2, section 2.1: https://learn.microsoft.com/openspecs/windows_protocols/ms-smb2/
"""

SSH_AGENT: Final = FrameFormat("u32be", max_payload_length=256 << 10)
"""An SSH agent's socket: `length u32be | type u8 | message`. The payload begins at the type.

Limit: OpenSSH's `AGENT_MAX_LEN`, 256 KiB.
https://datatracker.ietf.org/doc/draft-ietf-sshm-ssh-agent/ (section 3)
"""

SFTP: Final = FrameFormat("u32be", max_payload_length=256 << 10)
"""SFTP inside its SSH channel: `length u32be | type u8 | request id u32be | rest`. The payload begins at the type.

Limit: OpenSSH's `SFTP_MAX_MSG_LENGTH`, 256 KiB.
https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02 (section 3)
"""

DOCKER_ATTACH: Final = FrameFormat("u32be", length_field_offset=4, initial_bytes_to_strip=0)
"""Docker's attach and logs without a terminal: `stream u8 | 00 00 00 | length u32be | output`. The payload is all of it.

The stream is 0, 1 or 2, as file descriptors are. The documentation names no limit; this is the default of 16 MiB.
https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerAttach
"""

NATIVE_MESSAGING: Final = FrameFormat("u32le", max_payload_length=64 << 20)
"""Native messaging of Chrome and Firefox: `length u32, in the machine's byte order | JSON`. The payload is the JSON.

The order here is little-endian, as on the machines that they run on. Limit: the 64 MiB that Chrome sends; it takes 1 MB.
https://developer.chrome.com/docs/extensions/develop/concepts/native-messaging#native-messaging-host-protocol
"""

# Programming languages

MULTIPROCESSING: Final = FrameFormat("i32be", max_payload_length=_2_GIB)
"""Python's `multiprocessing.connection` on sockets and pipes: `length i32be | object`, a pickle where `send` was called.

Limit: 2 GiB - 1. Longer ones begin with a length of -1, which is corrupt here.
https://docs.python.org/3/library/multiprocessing.html#connection-objects, and `Connection._send_bytes` in its source
"""

PYTHON_LOGGING: Final = FrameFormat("u32be")
"""Python's `logging.handlers.SocketHandler`: `length u32be | pickle of a record's attributes`.

It has no limit; this is the default of 16 MiB. Unpickle nothing from a peer that you do not trust.
https://docs.python.org/3/library/logging.handlers.html#sockethandler
"""

ERLANG_PACKET_1: Final = FrameFormat("u8", max_payload_length=255)
"""Erlang's `{packet, 1}`: `length u8 | data`. https://www.erlang.org/doc/apps/kernel/inet.html#setopts/2"""

ERLANG_PACKET_2: Final = FrameFormat("u16be", max_payload_length=65_535)
"""Erlang's `{packet, 2}`: `length u16be | data`. https://www.erlang.org/doc/apps/kernel/inet.html#setopts/2"""

ERLANG_PACKET_4: Final = FrameFormat("u32be", max_payload_length=_2_GIB)
"""Erlang's `{packet, 4}`: `length u32be | data`. Limit: 2 GiB, as documented.

https://www.erlang.org/doc/apps/kernel/inet.html#setopts/2
"""

NETSTRING: Final = FrameFormat("netstring", max_payload_length=999_999_999)
"""Netstrings: `decimal length | : | data | ,`. The payload is the data.

Limit: nine digits, as in the specification's code. https://cr.yp.to/proto/netstrings.txt
"""

# Machines

MODBUS_TCP: Final = FrameFormat("u16be", length_field_offset=4, initial_bytes_to_strip=0, max_payload_length=254)
"""Modbus/TCP: `transaction u16be | protocol u16be | length u16be | unit u8 | function u8 | data`. The payload is all of it.

Limit: 254, the unit and 253 bytes of PDU. Modbus Messaging on TCP/IP 1.0b, section 3.1.3:
https://modbus.org/docs/Modbus_Messaging_Implementation_Guide_V1_0b.pdf
"""

OPC_UA: Final = FrameFormat(
    "u32le", length_field_offset=4, length_adjustment=-8, initial_bytes_to_strip=0, max_payload_length=65_535 - 8
)
"""OPC UA over TCP: `type, 3 letters | chunk, 1 letter | length u32le, of all | message`. The payload is all of it.

Limit: a chunk of 65,535 bytes with the header, the buffer that asyncua announces.
OPC 10000-6, section 7.1.2.2: https://reference.opcfoundation.org/Core/Part6/v105/docs/7.1.2
"""

TPKT: Final = FrameFormat("u16be", length_field_offset=2, length_adjustment=-4, leading=b"\x03\x00")
"""ISO transport over TCP, under S7 (Siemens), RDP and H.323: `03 00 | length u16be, of all | TPDU`. The payload is the TPDU.

Limit: all that the length can say. RFC 1006, section 6.
"""

DICOM: Final = FrameFormat("u32be", length_field_offset=2, initial_bytes_to_strip=0, max_payload_length=128 << 10)
"""DICOM's upper layer: `type u8 | 00 | length u32be | PDU`. The payload is all of it, for the type.

Limit: 128 KiB, the most that DCMTK offers; the standard lets peers agree on any.
PS3.8, section 9.3: https://dicom.nema.org/medical/dicom/current/output/chtml/part08/sect_9.3.html
"""

# Games

MINECRAFT: Final = FrameFormat("varint", max_varint_length=3, max_payload_length=(1 << 21) - 1)
"""Minecraft (Java Edition): `length varint | packet id varint | data`; other bytes follow the length where it is compressed.

Limit: the most that a varint of three bytes says.
https://minecraft.wiki/w/Java_Edition_protocol/Packets#Packet_format
"""

SOURCE_RCON: Final = FrameFormat("i32le", max_payload_length=4096)
"""Source RCON, Minecraft's too: `size i32le | id i32le | type i32le | text | 00 00`. The payload begins at the id. Limit: 4096.

https://developer.valvesoftware.com/wiki/Source_RCON_Protocol
"""

BY_NAME: Final[Mapping[str, FrameFormat]] = MappingProxyType(
    {name.lower().replace("_", "-"): value for name, value in list(globals().items()) if isinstance(value, FrameFormat)}
)
"""Every format above under its name in lower case with hyphens, such as `postgresql-startup`: for command lines."""
