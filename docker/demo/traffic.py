#!/usr/bin/env python3
"""Whale traffic for the demonstration: ether and token transfers of all sizes, a few dozen in every block of a `geth --dev`.

geth signs for its one developer account only, so the accounts that trade here sign for themselves, with keys made from their
names. Nothing but Python's standard library is used; hashes are asked of the node. Never use these keys for anything else.
"""

import hashlib
import itertools
import json
import random
import socket
import sys
import time

NAMES = ["binnacle", "bosun", "capstan", "coxswain", "fathom", "gunwale", "halyard", "jib", "keel", "leeway", "mizzen", "rudder"]
TOKENS = {"KRILL": 10**9 * 10**18, "SQUID": 10**8 * 10**6}
TRANSACTIONS_PER_BLOCK = 40
ETHER = 10**18
GWEI = 10**9
FUNDS = 100_000 * ETHER
# geth's developer chain follows the rules of Bogota, where a first token of an account costs 150,000 gas.
TRANSFER_GAS = 300_000
TRANSFER_TOPIC = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


class Node:
    """geth, over its socket: one request at a time, one line each way."""

    def __init__(self, path):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(path)
        self.lines = self.stream.makefile("rb")
        self.ids = itertools.count(1)
        self.chain_id = self.number("eth_chainId")

    def __call__(self, method, *params):
        request = {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": params}
        self.stream.sendall(json.dumps(request).encode())
        line = self.lines.readline()
        if not line:
            sys.exit(f"the node hung up on {method}")
        reply = json.loads(line)
        if "error" in reply:
            raise ValueError(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def keccak(self, data):
        return bytes.fromhex(self("web3_sha3", "0x" + data.hex())[2:])

    def number(self, method, *params):
        return int(self(method, *params), 16)

    def receipt(self, transaction):
        """Waits for the block that holds it."""
        deadline = time.monotonic() + 60
        said = "it was not mined"
        while time.monotonic() < deadline:
            try:
                if receipt := self("eth_getTransactionReceipt", transaction):
                    return receipt
            except ValueError as error:
                # Just after its start, geth says that it is still indexing.
                said = str(error)
            time.sleep(0.1)
        sys.exit(f"transaction {transaction}: after 60 s, {said}")


# secp256k1 (SEC 2, section 2.4.1), plain and slow: a signature takes milliseconds.
P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798, 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)


def add(a, b):
    if a is None:
        return b
    if a == b:
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


DOUBLES = list(itertools.accumulate(range(255), lambda point, _: add(point, point), initial=G))


def multiply(factor):
    point = None
    for bit, double in enumerate(DOUBLES):
        if factor >> bit & 1:
            point = add(point, double)
    return point


def sign(key, digest):
    k = int.from_bytes(hashlib.sha512(key.to_bytes(32, "big") + digest).digest(), "big") % N
    x, y = multiply(k)
    s = pow(k, -1, N) * (int.from_bytes(digest, "big") + x * key) % N
    return (y & 1, x, s) if s <= N // 2 else (1 - (y & 1), x, N - s)


def rlp(item):
    if isinstance(item, list):
        body, offset = b"".join(map(rlp, item)), 0xC0
    else:
        body, offset = item if isinstance(item, bytes) else item.to_bytes((item.bit_length() + 7) // 8, "big"), 0x80
        if len(body) == 1 and body[0] < 0x80:
            return body
    if len(body) < 56:
        return bytes([offset + len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(length)]) + length + body


class Account:
    """One that trades: it knows its key, and remembers its nonce and what it holds."""

    def __init__(self, node, name):
        self.node = node
        self.key = int.from_bytes(node.keccak(name.encode()), "big") % N
        self.address = node.keccak(b"".join(part.to_bytes(32, "big") for part in multiply(self.key)))[12:]
        self.tokens = {}
        self.look()

    def look(self):
        self.nonce = self.node.number("eth_getTransactionCount", "0x" + self.address.hex(), "pending")
        self.ether = self.node.number("eth_getBalance", "0x" + self.address.hex(), "pending")

    def send(self, to, value, data=b"", gas=21_000):
        tip, fee = random.randint(1, 5) * GWEI, 200 * GWEI
        fields = [self.node.chain_id, self.nonce, tip, fee, gas, to, value, data, []]
        signature = sign(self.key, self.node.keccak(b"\x02" + rlp(fields)))
        self.node("eth_sendRawTransaction", "0x02" + rlp(fields + list(signature)).hex())
        self.nonce += 1
        self.ether -= value + gas * fee


class Developer:
    """geth's own account, for which it signs. Its nonces are counted here: geth's own count can lag behind what it was just sent."""

    def __init__(self, node):
        self.node = node
        self.address = node("eth_accounts")[0]
        self.look()

    def look(self):
        self.nonce = self.node.number("eth_getTransactionCount", self.address, "pending")

    def send(self, **fields):
        """Returns the transaction's hash."""
        fields = {name: "0x" + value.hex() if isinstance(value, bytes) else hex(value) for name, value in fields.items()}
        sent = self.node("eth_sendTransaction", {"from": self.address, "nonce": hex(self.nonce), **fields})
        self.nonce += 1
        return sent


def assemble(listing):
    """EVM code of a listing: instructions in hex, `name:` a jump target, `@name` its address as PUSH2."""
    words = [word for line in listing.splitlines() for word in line.split(";")[0].split()]
    size = lambda word: 1 if word.endswith(":") else 3 if word.startswith("@") else len(word) // 2
    starts = itertools.accumulate(map(size, words), initial=0)
    labels = {word[:-1]: start for word, start in zip(words, starts) if word.endswith(":")}
    code = ("5b" if word.endswith(":") else f"61{labels[word[1:]]:04x}" if word.startswith("@") else word for word in words)
    return bytes.fromhex("".join(code))


def token_code(supply):
    """What creates an ERC-20 token with `transfer`, `balanceOf` and `totalSupply`; balances lie at their owner's address."""
    runtime = assemble(f"""
        5f35 60e0 1c                            ; the selector
        80 63a9059cbb 14 @transfer 57
        80 6370a08231 14 @balance 57
        80 6318160ddd 14 @supply 57
        fail: 5f 5f fd
        supply: 7f{supply:064x} @answer 56
        balance: 6004 35 54
        answer: 5f 52 6020 5f f3
        transfer: 6024 35 33 54                 ; balance, amount
        81 81 10 @fail 57                       ; fails where the balance is below the amount
        81 90 03 33 55                          ; stores balance - amount
        6004 35 80 54 82 01 81 55               ; stores the receiver's balance + amount
        90 5f 52 33 7f{TRANSFER_TOPIC}
        6020 5f a3                              ; Transfer(sender, receiver, amount)
        6001 @answer 56
    """)
    create = f"""
        7f{supply:064x} 80 33 55                ; all of it is the creator's
        5f 52 33 5f 7f{TRANSFER_TOPIC} 6020 5f a3
        61{len(runtime):04x} 80 @end 5f 39 5f f3
        end:
    """
    # The runtime code follows the label, whose own byte is left out.
    return assemble(create)[:-1] + runtime


def transfer(to, amount):
    return bytes.fromhex("a9059cbb") + to.rjust(32, b"\0") + amount.to_bytes(32, "big")


def create_tokens(node, developer):
    """Creates the tokens; their addresses by name."""
    sent = {name: developer.send(gas=0x80000, data=token_code(supply)) for name, supply in TOKENS.items()}
    created = {}
    for name, transaction in sent.items():
        receipt = node.receipt(transaction)
        if receipt["status"] != "0x1":
            sys.exit(f"creating the token {name} failed")
        created[name] = bytes.fromhex(receipt["contractAddress"][2:])
    return created


def fund(developer, account):
    """From the developer account's bottomless purse."""
    developer.send(to=account.address, value=FUNDS)
    account.ether += FUNDS


def act(developer, accounts, tokens):
    """One transaction: mostly ether, sizes spread evenly over seven orders of magnitude, now and then one that fails."""
    sender, receiver = random.sample(accounts, 2)
    if random.random() < 0.65:
        amount = int(10 ** random.uniform(-3, 4) * ETHER)
        if sender.ether < amount + ETHER:
            fund(developer, sender)
            return
        sender.send(receiver.address, amount)
        receiver.ether += amount
        return
    name = random.choice(list(tokens))
    held = sender.tokens[name]
    amount = int(held * 10 ** random.uniform(-6, -1)) if random.random() < 0.97 else TOKENS[name] * 2
    sender.send(tokens[name], 0, transfer(receiver.address, amount), gas=TRANSFER_GAS)
    if amount <= held:
        sender.tokens[name] -= amount
        receiver.tokens[name] += amount


def main():
    node = Node(sys.argv[1])
    developer = Developer(node)
    accounts = [Account(node, name) for name in NAMES]
    tokens = create_tokens(node, developer)
    for account in accounts:
        fund(developer, account)
        for name, address in tokens.items():
            share = TOKENS[name] // (2 * len(accounts))
            last = developer.send(to=address, gas=TRANSFER_GAS, data=transfer(account.address, share))
            account.tokens[name] = share
    node.receipt(last)
    print(f"{len(accounts)} accounts trade ether and {len(tokens)} tokens", flush=True)

    seen = 0
    while True:
        head = node.number("eth_blockNumber")
        if head == seen:
            time.sleep(0.1)
            continue
        seen = head
        for _ in range(TRANSACTIONS_PER_BLOCK):
            try:
                act(developer, accounts, tokens)
            except ValueError as error:
                # The pool may be full or a fee too low for a moment: look at the accounts again and go on.
                print(error, file=sys.stderr, flush=True)
                for account in [developer, *accounts]:
                    account.look()
                break


if __name__ == "__main__":
    main()
