'use strict'
// The account's numbers: list, get, update, unrent.

const assert = require('node:assert/strict')
const test = require('node:test')
const { client, demo, refused } = require('./sdk.js')

test('listed with filters, and in pages', async () => {
  const found = await client.numbers.list({ numberStartswith: '1203', limit: 3, offset: 0 })
  assert.equal(found.length, 3)
  for (const each of found) assert.match(each.number, /^1203/)
  assert.equal(found.meta.totalCount, 10)
  const tollFree = await client.numbers.list({ type: 'tollfree', limit: 1 })
  assert.match(tollFree[0].number, /^18/)
})

test('read and labelled', async () => {
  assert.equal((await client.numbers.get('12035550100')).number, '12035550100')
  const updated = await client.numbers.update('12035550100', { alias: 'the shop', appId: demo.application_id })
  assert.equal(updated.message, 'changed')
  const number = await client.numbers.get('12035550100')
  assert.equal(number.alias, 'the shop')
  assert.equal(number.application, `/v1/Account/${demo.auth_id}/Application/${demo.application_id}/`)
})

test('given up', async () => {
  await client.numbers.unrent('12035550101')
  await refused(client.numbers.get('12035550101'), 404, /not found|no such/)
})

test('searched and bought', async () => {
  const found = await client.numbers.search('US', { type: 'local', pattern: '203', limit: 2 })
  assert.equal(found.length, 2)
  assert.match(found[0].number, /^1203/)
  const bought = await client.numbers.buy(found[0].number)
  assert.equal(bought.status, 'fulfilled')
  assert.equal((await client.numbers.get(found[0].number)).number, found[0].number)
  await client.numbers.unrent(found[0].number)
  await refused(client.numbers.buy('12035559999'), 404, /for rent/)
})
