"""What real programs said, as data: the golden bytes of every format in `fastframe.formats`.

They were captured from the client or library that is named beside them, which talked to a listener or a server beside it, and
cut at frame borders. Those "by hand" follow an example or a drawing in the source that is named. A bar stands behind the bytes
that the format strips, and a second one before a trailer; without a bar the whole frame is the payload.

TLS and Python's logging are not here: they speak for themselves while the tests run (`test_formats.py`).
"""

from __future__ import annotations

from vectors import Vector

from fastframe.formats import BY_NAME


def _golden(name: str, origin: str, *drawings: str) -> Vector:
    """Return the vector of a format whose frames are drawn as `stripped | payload | trailer`, in hexadecimal."""
    frames = []
    for drawing in drawings:
        parts = [bytes.fromhex(part) for part in drawing.split("|")]
        payload = parts[0] if len(parts) == 1 else parts[1]
        frames.append((payload, b"".join(parts)))
    return Vector(f"{name}: {origin}", str(BY_NAME[name]), frames)


GOLDEN = [
    _golden(
        "postgresql",
        "psql 15.18: Query, Terminate",
        "510000001853454c45435420343220415320616e7377657200",
        "5800000004",
    ),
    _golden(
        "postgresql",
        "PostgreSQL 15.18 to psql: RowDescription, DataRow, CommandComplete, ReadyForQuery",
        "540000001f0001616e7377657200000000000000000000170004ffffffff0000",
        "440000000c0001000000023432",
        "430000000d53454c454354203100",
        "5a0000000549",
    ),
    _golden(
        "postgresql",
        "pg8000 1.31.6: Bind, Flush, Execute, Flush, Sync",
        "420000001100000000000100000001780000",
        "4800000004",
        "45000000090000000000",
        "4800000004",
        "5300000004",
    ),
    _golden(
        "postgresql-startup",
        "psql 15.18: SSLRequest, StartupMessage",
        "00000008 | 04d2162f",
        (
            "0000003f | 000300007573657200706f73746772657300646174616261736500706f737467726573006170706c69636174696f6e5f"
            "6e616d65007073716c0000"
        ),
    ),
    _golden(
        "mysql",
        "PyMySQL 1.2.4: HandshakeResponse41, two COM_QUERY, COM_PING",
        (
            "770000 | 010da23a00ffffff002d00000000000000000000000000000000000000000000006a6f65000074657374006d7973716c5f"
            "6e61746976655f70617373776f726400360c5f636c69656e745f6e616d650770796d7973716c0f5f636c69656e745f76657273696f6e"
            "05312e322e34045f706964053131303537"
        ),
        "120000 | 0003534554204e414d455320757466386d6234",
        "130000 | 0003534554204155544f434f4d4d4954203d2030",
        "010000 | 000e",
    ),
    _golden(
        "mongodb",
        "PyMongo 4.20.0: OP_MSG of a ping",
        "32000000 | 69983c6400000000dd07000000000000001d0000001070696e670001000000022464620005000000746573740000",
    ),
    _golden(
        "bson",
        "PyMongo 4.20.0's bson of the two documents on bsonspec.org",
        "160000000268656c6c6f0006000000776f726c640000",
        "310000000442534f4e002600000002300008000000617765736f6d65000131003333333333331440103200c20700000000",
    ),
    _golden(
        "cassandra",
        "cassandra-driver 3.30.1: OPTIONS, STARTUP",
        "040000000500000000",
        (
            "04000001010000005b0003000b4452495645525f4e414d45001e4170616368652043617373616e64726120507974686f6e2044726976"
            "6572000e4452495645525f56455253494f4e0006332e33302e31000b43514c5f56455253494f4e0005332e342e35"
        ),
    ),
    _golden(
        "tds",
        "python-tds 1.17.1: PRELOGIN, attention",
        "1201003a0000000000001a00060100200001020021000c03002d00040400310001ff010000000000024d5353514c536572766572000000000000",
        "0601000800000100",
    ),
    _golden(
        "memcached-binary",
        "python-binary-memcached 0.33.0: Set, Get",
        "80010001080000000000000a00000000000000000000000000000000000000006b76",
        "8000000100000000000000010000000000000000000000006b",
    ),
    _golden(
        "kafka",
        "kafka-python 3.0.12: ApiVersionsRequest 4",
        "00000029 | 00120004000000010009666173746672616d65000d6b61666b612d707974686f6e07332e302e313200",
    ),
    _golden(
        "kafka",
        "aiokafka 0.14.0: ApiVersionsRequest 0",
        "00000013 | 00120000000000010009666173746672616d65",
    ),
    _golden(
        "pulsar",
        "pulsar-client 3.13.0: CommandConnect",
        "00000029 | 00000025080212210a1150756c7361722d4350502d76342e322e3020142a046e6f6e65520408011001",
    ),
    _golden(
        "zookeeper",
        "kazoo 2.11.0: connect, exists, ping",
        "0000002d | 000000000000000000000000000007d00000000000000000000000100000000000000000000000000000000000",
        "0000000f | 0000000100000003000000022f6100",
        "00000008 | fffffffe0000000b",
    ),
    _golden(
        "mqtt",
        "paho-mqtt 2.2.0: CONNECT, PUBLISH of 150 bytes, PUBLISH, DISCONNECT",
        "101500044d5154540402003c0009666173746672616d65",
        "30a001000873656e736f722f31" + "78" * 150,
        "3210000873656e736f722f31000232312e35",
        "e000",
    ),
    _golden(
        "amqp-0-9-1",
        "pika 1.4.4: Connection.TuneOk, Connection.Open",
        "0100000000000c000a001f07ff00020000003cce",
        "01000000000008000a0028012f0001ce",
    ),
    _golden(
        "thrift-framed",
        "thrift 0.25.0, TFramedTransport: two calls of ping",
        "00000011 | 800100010000000470696e670000000100",
        "00000011 | 800100010000000470696e670000000200",
    ),
    _golden(
        "grpc",
        "grpcio 1.85.1: a request as it is, one with gzip",
        "00000000070a05776f726c64",
        "01000000191f8b0800000000000003e3aa2f1f58000020e7505681000000",
    ),
    _golden(
        "protobuf-delimited",
        "protobuf 7.36.2's serialize_length_prefixed: StringValues of 5, 0 and 200 characters",
        "07 | 0a0568656c6c6f",
        "00 |",
        "cb01 | 0ac801" + "78" * 200,
    ),
    _golden(
        "smpp",
        "smpplib 2.2.4: bind_transmitter",
        "00000028 | 000000020000000000000002534d50503354455354007365637265743038000034000000",
    ),
    _golden(
        "dns-tcp",
        "dig 9.18.49: a question",
        "001d | e24301200001000000000000076578616d706c6503636f6d0000010001",
    ),
    _golden(
        "http2",
        "grpcio 1.85.1, server: SETTINGS, WINDOW_UPDATE, SETTINGS ack, PING ack, HEADERS, DATA, HEADERS",
        "000018 | 040000000000000400400000000500400000000600004000fe0300000001",
        "000004 | 080000000000003f0001",
        "000000 | 040100000000",
        "000008 | 0600000000002391c744ae0e2f91",
        (
            "00004e | 01040000000188400c636f6e74656e742d74797065106170706c69636174696f6e2f677270634014677270632d61636365"
            "70742d656e636f64696e67176964656e746974792c206465666c6174652c20677a6970"
        ),
        "000012 | 000000000001000000000d0a0b48656c6c6f20776f726c64",
        "00001e | 010500000001400b677270632d7374617475730130000c677270632d6d65737361676500",
    ),
    _golden(
        "stun-tcp",
        "RFC 5769, section 2.1: a request",
        (
            "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932f"
            "f9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
        ),
    ),
    _golden(
        "rfc4571",
        "RFC 4571, section 2, around RTP headers of RFC 3550, section 5.1, by hand",
        "000e | 8000000100000000deadbeef7fff",
        "000c | 8000000200000001deadbeef",
    ),
    _golden(
        "bgp",
        "scapy 2.8.0: OPEN, KEEPALIVE",
        "ffffffffffffffffffffffffffffffff001d | 0104fde900b4c000020100",
        "ffffffffffffffffffffffffffffffff0013 | 04",
    ),
    _golden(
        "diameter",
        "python-diameter 0.9.0: Device-Watchdog-Request",
        (
            "0100005080000118000000000000000100000002000001084000001a636c69656e742e6578616d706c652e636f6d0000000001284000"
            "00136578616d706c652e636f6d00000001164000000c00000001"
        ),
    ),
    _golden(
        "radius-tcp",
        "pyrad 2.6.0: Access-Request, Access-Reject",
        "0107002c000102030405060708090a0b0c0d0e0f01066e656d6f0212403201e1dfbd5ecce9c895ad16ce7ff1",
        "030700265d51c435b74411f222410036c3322c6d50125d8d971e44a409c8c42214d7dc03e6ce",
    ),
    _golden(
        "ipfix",
        "RFC 7011, section 3: a template set and a data set, by hand",
        "000a001c0000000100000000000000010002000c0100000100080004",
        "000a001800000002000000000000000101000008c0000201",
    ),
    _golden(
        "openflow",
        "scapy 2.8.0: HELLO, FEATURES_REQUEST, ECHO_REQUEST",
        "0100000800000001",
        "0105000800000002",
        "0102000800000003",
    ),
    _golden(
        "bitcoin",
        "python-bitcoinlib 0.12.2: version, verack, ping",
        (
            "f9beb4d976657273696f6e0000000000610000003f3eb55262ea0000010000000000000011b2d0500000000001000000000000000000"
            "0000000000000000ffff000000000000010000000000000000000000000000000000ffff00000000000001000000000000000b2f6661"
            "73746672616d652fffffffff01"
        ),
        "f9beb4d976657261636b000000000000000000005df6e0e2",
        "f9beb4d970696e670000000000000000080000008c820c800700000000000000",
    ),
    _golden(
        "nine-p",
        "Plan 9 manual, version(5): Tversion, Rversion, by hand",
        "13000000 | 64ffff002000000600395032303030",
        "13000000 | 65ffff002000000600395032303030",
    ),
    _golden(
        "smb-tcp",
        "smbprotocol 1.17.0: SMB2 NEGOTIATE",
        (
            "000000e8 | fe534d424000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            "000000000000000000000000000000002400050002000000450000000000000000000000000000000000000170000000040000000202"
            "100200030203110300000100260000000000010020000100112cac856156284531d9d16914068300380e71fa3f990f97e33e0361023f"
            "14a5000002000a00000000000400020001000400030000000000000005001200000000003100320037002e0030002e0030002e003100"
            "00000000000008000800000000000300020001000000"
        ),
    ),
    _golden(
        "ssh-agent",
        "OpenSSH 9.2's ssh-add -l: request identities",
        "00000001 | 0b",
    ),
    _golden(
        "sftp",
        "OpenSSH 9.2's sftp: INIT, EXTENDED, REALPATH",
        "00000005 | 0100000003",
        "0000001b | c800000001000000126c696d697473406f70656e7373682e636f6d",
        "0000000a | 1000000002000000012e",
    ),
    _golden(
        "docker-attach",
        "Docker's API, ContainerAttach, by hand; docker 28.2.2 logs reads it as standard output and error",
        "010000000000000668656c6c6f0a",
        "02000000000000056f6f70730a",
    ),
    _golden(
        "native-messaging",
        "Chrome's documentation of the protocol, by hand",
        "10000000 | 7b2274657874223a2268656c6c6f227d",
        "02000000 | 2222",
    ),
    _golden(
        "multiprocessing",
        "Python 3.11's Connection: send('hello'), send_bytes(b''), send_bytes(b'raw')",
        "00000014 | 80049509000000000000008c0568656c6c6f942e",
        "00000000 |",
        "00000003 | 726177",
    ),
    _golden(
        "erlang-packet-1",
        "Erlang/OTP 25's gen_tcp: text, nothing, a term",
        "05 | 68656c6c6f",
        "00 |",
        "0c | 83680264000470696e676101",
    ),
    _golden(
        "erlang-packet-2",
        "Erlang/OTP 25's gen_tcp: text, nothing, a term",
        "0005 | 68656c6c6f",
        "0000 |",
        "000c | 83680264000470696e676101",
    ),
    _golden(
        "erlang-packet-4",
        "Erlang/OTP 25's gen_tcp: text, nothing, a term",
        "00000005 | 68656c6c6f",
        "00000000 |",
        "0000000c | 83680264000470696e676101",
    ),
    _golden(
        "modbus-tcp",
        "pymodbus 3.16.1: two times Read Holding Registers",
        "0001000000061103006b0003",
        "000200000006110300010002",
    ),
    _golden(
        "opc-ua",
        "asyncua 2.1.0: Hello, OpenSecureChannel",
        "48454c463a00000000000000ffffff7fffffff7f00000000000000001a0000006f70632e7463703a2f2f3132372e302e302e313a33353631372f",
        (
            "4f504e4684000000000000002f000000687474703a2f2f6f7063666f756e646174696f6e2e6f72672f55412f5365637572697479506f"
            "6c696379234e6f6e65ffffffffffffffff01000000010000000100be010000464330a7be79dd010100000000000000ffffffffe80300"
            "000000000000000000000000010000000000000080ee3600"
        ),
    ),
    _golden(
        "tpkt",
        "python-snap7 3.3.0: connection request, setup communication",
        "03000016 | 11e00000000100c1020100c2020101c0010a",
        "03000019 | 02f08032010000000100080000f0000001000101e0",
    ),
    _golden(
        "dicom",
        "pynetdicom 3.0.4: A-ASSOCIATE-RQ, A-ABORT",
        (
            "0100000000d100010000414e592d534350202020202020202020464153544652414d4520202020202020000000000000000000000000"
            "000000000000000000000000000000000000000010000015312e322e3834302e31303030382e332e312e312e312000002e0100000030"
            "000011312e322e3834302e31303030382e312e3140000011312e322e3834302e31303030382e312e325000003e5100000400003ffe52"
            "000020312e322e3832362e302e312e333638303034332e392e333831312e332e302e345500000e50594e45544449434f4d5f333034"
        ),
        "07000000000400000000",
    ),
    _golden(
        "minecraft",
        "mcstatus 14.2.0: handshake, status request",
        "0f | 002f093132372e302e302e318c4f01",
        "01 | 00",
    ),
    _golden(
        "source-rcon",
        "rcon 2.4.9: login, command",
        "10000000 | e4cf6d6f030000007365637265740000",
        "0e000000 | e124532f020000006c6973740000",
    ),
    _golden(
        "netstring",
        "its specification's example, and an empty one, by hand",
        "31323a | 68656c6c6f20776f726c6421 | 2c",
        "303a | | 2c",
    ),
]
