'use strict'
// Messages: send, get, list.

const assert = require('node:assert/strict')
const test = require('node:test')
const { client, demo, plivo, refused, until } = require('./sdk.js')

const POWERPACK = demo.powerpack_uuid

function delivered (uuid) {
  return until(async () => {
    const message = await client.messages.get(uuid)
    return message.messageState === 'delivered' ? message : null
  }, `${uuid} is delivered`)
}

test('one message, sent by its parts', async () => {
  const sent = await client.messages.create(undefined, '+14155550161', 'Hello', {}, POWERPACK)
  assert.equal(sent.message, 'message(s) queued')
  assert.equal(sent.messageUuid.length, 1)
  const message = await delivered(sent.messageUuid[0])
  assert.equal(message.toNumber, '14155550161')
  assert.equal(message.powerpackID, POWERPACK)
  assert.equal(message.errorCode, '000')
  assert.equal(message.units, 1)
  assert.equal(message.isDomestic, true)
  assert.equal(message.resourceUri, `/v1/Account/${demo.auth_id}/Message/${message.messageUuid}/`)
})

test('one message, sent as an object with all its options', async () => {
  const sent = await client.messages.create({
    powerpackUUID: POWERPACK,
    dst: '+14155550162',
    text: 'Hello',
    type: 'sms',
    method: 'POST',
    log: 'number_only',
    trackable: true,
    messageExpiry: 600,
  })
  assert.equal((await delivered(sent.messageUuid[0])).messageType, 'sms')
})

test('several recipients, of whom one is none', async () => {
  const sent = await client.messages.create({
    powerpackUUID: POWERPACK,
    dst: ['+14155550163', '1111', '+14165550164'],
    text: 'Hello',
  })
  assert.equal(sent.messageUuid.length, 2)
  assert.deepEqual(sent.invalid_number, ['1111'])
})

test('one message from a number of ours', async () => {
  const sent = await client.messages.create('+12025550100', '+14155550165', 'Hello')
  assert.equal((await delivered(sent.messageUuid[0])).fromNumber, '12025550100')
})

test('the older send is the same', async () => {
  const sent = await client.messages.send('+12025550101', '+14155550166', 'Hello', {})
  assert.equal(sent.messageUuid.length, 1)
})

test('lists are filtered and paged', async () => {
  const sent = await client.messages.create({ powerpackUUID: POWERPACK, dst: '+14155550167', text: 'Hello' })
  await delivered(sent.messageUuid[0])
  const found = await client.messages.list({ toNumber: '14155550167', messageState: 'delivered', limit: 5, offset: 0 })
  assert.equal(found.length, 1)
  assert.equal(found[0].messageUuid, sent.messageUuid[0])
  assert.equal(found.meta.totalCount, 1)
  const all = await client.messages.list({ powerpackId: POWERPACK, limit: 2 })
  assert.equal(all.length, 2)
  assert.ok(all.meta.totalCount > 2)
  assert.match(all.meta.next, /limit=2&offset=2$/)
  assert.equal(all.meta.previous, null)
})

test('errors have our status and our words', async () => {
  await refused(client.messages.get('019b76da-a800-7000-8000-000000000001'), 404, /not found/)
  await refused(client.messages.create('+12025550100', '1111', 'Hello'), 400, /1111|number/)
  const stranger = new plivo.Client(demo.auth_id, 'wrong')
  await refused(stranger.accounts.get(), 401, /credentials/)
})
