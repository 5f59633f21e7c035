'use strict'
// Powerpacks: create, get, list, update, delete.

const assert = require('node:assert/strict')
const test = require('node:test')
const { client, demo, freshPowerpack, refused } = require('./sdk.js')

test('created with a name alone', async () => {
  const made = await client.powerpacks.create('node plain')
  assert.equal(made.name, 'node plain')
  assert.equal(made.stickySender, true)
  assert.equal(made.localConnect, true)
  assert.equal(made.applicationId, '')
  assert.equal(made.numberPool.split('/')[3], demo.auth_id)
  assert.equal(made.numberPriority.length, 4)
  await (await client.powerpacks.get(made.uuid)).delete()
})

test('created with everything, and read again', async () => {
  const powerpack = await freshPowerpack({
    sticky_sender: false,
    local_connect: false,
    application_type: 'xml',
    application_id: demo.application_id,
    number_priority: [
      {
        country_iso: 'CA',
        service_type: 'SMS',
        priority: { priority1: 'longcode', priority2: 'tollfree', priority3: 'shortcode' },
      },
    ],
  })
  assert.equal(powerpack.stickySender, false)
  assert.equal(powerpack.localConnect, false)
  assert.equal(powerpack.applicationId, demo.application_id)
  const canada = powerpack.numberPriority.find((each) => each.countryIso === 'CA' && each.serviceType === 'SMS')
  assert.equal(canada.priority.priority1, 'longcode')
  const states = powerpack.numberPriority.find((each) => each.countryIso === 'US' && each.serviceType === 'SMS')
  assert.equal(states.priority.priority1, 'shortcode')
  await powerpack.delete()
})

test('updated by the object and by the interface', async () => {
  const powerpack = await freshPowerpack()
  const updated = await powerpack.update({ sticky_sender: false, name: `${powerpack.name} renamed` })
  assert.equal(updated.stickySender, false)
  assert.equal(updated.name, `${powerpack.name} renamed`)
  const again = await client.powerpacks.update(powerpack.uuid, { local_connect: false })
  assert.equal(again.localConnect, false)
  assert.equal((await client.powerpacks.get(powerpack.uuid)).stickySender, false)
  await powerpack.delete()
})

test('listed in pages', async () => {
  const made = [await freshPowerpack(), await freshPowerpack()]
  const first = await client.powerpacks.list({ limit: 1, offset: 0 })
  assert.equal(first.length, 1)
  assert.ok(first.meta.totalCount >= 3)
  const all = await client.powerpacks.list({ limit: 20 })
  for (const each of made) assert.ok(all.some((found) => found.uuid === each.uuid))
  for (const each of made) await each.delete()
})

test('deleted for good', async () => {
  const powerpack = await freshPowerpack()
  assert.equal((await powerpack.delete(true)).response, 'success')
  await refused(client.powerpacks.get(powerpack.uuid), 404, /not found|no such/)
})
