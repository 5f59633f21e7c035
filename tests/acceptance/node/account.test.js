'use strict'
// The account.

const assert = require('node:assert/strict')
const test = require('node:test')
const { client, demo } = require('./sdk.js')

test('who we are', async () => {
  const account = await client.accounts.get()
  assert.equal(account.resourceUri, `/v1/Account/${demo.auth_id}/`)
  assert.equal(account.accountType, 'standard')
  assert.equal(account.cashCredits, '0.00000')
})
