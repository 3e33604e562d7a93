// nostr-tools against a board, as an application uses it: `node check.mjs ws://…`. Ends with 0 when all went as it should.
import { readFileSync } from 'node:fs'
import WebSocket from 'ws'
import { Relay, useWebSocketImplementation } from 'nostr-tools/relay'
import { SimplePool, useWebSocketImplementation as usePool } from 'nostr-tools/pool'
import { finalizeEvent, generateSecretKey, getPublicKey, verifyEvent } from 'nostr-tools/pure'
import * as nip11 from 'nostr-tools/nip11'
import * as nip19 from 'nostr-tools/nip19'
import * as nip59 from 'nostr-tools/nip59'
import * as nip99 from 'nostr-tools/nip99'
// Not among the package's exports.
import { NegentropyStorageVector, NegentropySync } from './node_modules/nostr-tools/lib/esm/nip77.js'

useWebSocketImplementation(WebSocket)
usePool(WebSocket)
const url = process.argv[2]
const now = Math.floor(Date.now() / 1000)
const key = generateSecretKey(), author = getPublicKey(key)
const otherKey = generateSecretKey(), other = getPublicKey(otherKey)
let failed = 0

function say(what, ok, more = '') {
  console.log(ok ? 'ok    ' : 'FAILED', what, more)
  if (!ok) failed += 1
}

const sign = (kind, created_at, tags, content) => finalizeEvent({ kind, created_at, tags, content }, key)

/** Why a promise is rejected. */
const rejected = promise => promise.then(() => 'it was taken', error => error.message)

/** The stored events that match. */
function stored(relay, filter) {
  return new Promise((resolve, reject) => {
    const events = []
    const subscription = relay.subscribe([filter], {
      onevent: event => events.push(event),
      oneose: () => { resolve(events); subscription.close() },
      onclose: reason => reject(new Error(reason)),
    })
  })
}

/** The first event that comes after the end of the stored ones; `act` brings it about. */
function live(relay, filter, act) {
  return new Promise((resolve, reject) => {
    const subscription = relay.subscribe([filter], {
      onevent: event => { resolve(event); subscription.close() },
      oneose: () => { act().catch(reject) },
      onclose: reason => reject(new Error(reason)),
    })
  })
}

const relay = await Relay.connect(url), stranger = await Relay.connect(url), recipient = await Relay.connect(url)

const note = sign(1, now, [['t', 'souk']], 'hello "ä" \u2028 😀')
await relay.publish(note)
say('a note is published and found', (await stored(relay, { authors: [author], '#t': ['souk'] }))[0]?.id === note.id)
const forged = { ...note, content: 'forged', id: note.id.replace(/^./, digit => (digit === '0' ? '1' : '0')) }
say('a forged note is refused', (await rejected(relay.publish(forged))).startsWith('invalid:'))

const listing = sign(30402, now, [['d', 'x']], 'a listing'), newer = sign(30402, now + 1, [['d', 'x']], 'another price')
say('a listing comes live', (await live(stranger, { kinds: [30402], authors: [author] }, () => relay.publish(listing))).id === listing.id)
await relay.publish(newer)
say('its newer version replaces it', (await stored(relay, { kinds: [30402], authors: [author] })).map(e => e.id).join() === newer.id)
say('it is counted', (await relay.count([{ kinds: [30402], authors: [author] }], {})) === 1)
await relay.publish(sign(5, now, [['e', note.id]], ''))
say('a deleted note is gone', (await stored(relay, { ids: [note.id] })).length === 0)

const passing = sign(20001, now, [], 'passing')
say('an ephemeral event comes live', (await live(stranger, { kinds: [20001], authors: [author] }, () => relay.publish(passing))).id === passing.id)
say('and is not kept', (await stored(relay, { ids: [passing.id] })).length === 0)

await relay.publish(nip59.wrapEvent({ kind: 14, content: 'secret', tags: [['p', other]] }, key, other))
const asked = await rejected(stored(stranger, { kinds: [1059] }))
say('a stranger is not shown gift wraps', asked.startsWith('auth-required:'), asked)
await recipient.auth(async template => finalizeEvent(template, otherKey))
const wraps = await stored(recipient, { kinds: [1059], '#p': [other] })
say('their recipient is', wraps.length === 1 && nip59.unwrapEvent(wraps[0], otherKey).content === 'secret')

const mine = sign(1, now, [['-']], 'protected')
say('a protected note needs AUTH', (await rejected(relay.publish(mine))).startsWith('auth-required:'))
await relay.auth(async template => finalizeEvent(template, key))
await relay.publish(mine)
say('and is taken after it', (await stored(relay, { ids: [mine.id] })).length === 1)

const notes = Array.from({ length: 500 }, (_, i) => sign(7, now - i, [], String(i)))
await Promise.all(notes.slice(0, 480).map(event => relay.publish(event)))
const storage = new NegentropyStorageVector()
notes.slice(30).forEach(event => storage.insert(event.created_at, event.id))
storage.seal()
const need = [], have = []
await new Promise((resolve, reject) => {
  const filter = { authors: [author], kinds: [7] }
  const onclose = reason => (reason ? reject(new Error(reason)) : resolve())
  new NegentropySync(relay, storage, filter, { onneed: id => need.push(id), onhave: id => have.push(id), onclose }).start()
})
const same = (ids, events) => ids.length === events.length && events.every(event => ids.includes(event.id))
say('negentropy finds what either lacks', same(need, notes.slice(0, 30)) && same(have, notes.slice(480)))

// Our listings and orders as other markets get them.
const [goods, order, naddr] = readFileSync('mirrors.jsonl', 'utf8').trim().split('\n').map(line => JSON.parse(line))
say('our mirrors are signed', verifyEvent(goods) && verifyEvent(order))
const parsed = nip99.validateEvent(goods) ? nip99.parseEvent(goods) : {}
say('our listing is one of NIP-99', parsed.title === 'Wool socks' && parsed.price.amount === '50000' && parsed.price.currency === 'SAT')
say('with its description and pictures', parsed.content === 'Warm.\n\nOne size.' && parsed.images[0].url === 'https://example.com/socks.png')
const address = nip19.decode(naddr).data
say('its address is one of NIP-19', address.identifier === '8151436721934611' && address.pubkey === goods.pubkey && address.kind === 30402)
await relay.publish(goods)
await relay.publish(order)
say('it is found by category', (await stored(relay, { kinds: [30402], '#t': ['clothes'] })).some(e => e.id === goods.id))
say('our order is found as NIP-69 asks', (await stored(relay, { kinds: [38383], '#s': ['pending'], '#k': ['sell'], '#f': ['EUR'], '#z': ['order'] })).some(e => e.id === order.id))

const pool = new SimplePool()
say('SimplePool works', (await pool.get([url], { ids: [newer.id] }))?.id === newer.id)
const information = await nip11.fetchRelayInformation(url)
say('the NIP-11 document is read', [1, 9, 11, 42, 59, 77].every(nip => information.supported_nips.includes(nip)))
process.exit(failed === 0 ? 0 : 1)
