"""The message codec: betterproto's messages without betterproto's parser, which is neither strict nor linear.

    codec = MessageCodec(max_size=64 * 2**20, max_depth=100)  # for grpclib's `codec=`
    data = encode(message)
    message = decode(Message, data)

`plan` reads what a message class says about itself, `emit_decode` and `emit_encode` write two functions from it, and `compiled`
keeps them. What is large stays in `pieces`. `wire` has the primitives they call.
"""

from supervisor.transport.codec.betterproto_messages import MAX_DEPTH, MAX_MESSAGES, decode, encode
from supervisor.transport.codec.message_codec import MAX_SIZE, MessageCodec
from supervisor.transport.codec.pieces import Pieces

__all__ = ["MAX_DEPTH", "MAX_MESSAGES", "MAX_SIZE", "MessageCodec", "Pieces", "decode", "encode"]
