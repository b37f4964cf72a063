-- Has regcred write nothing for this object until it is resumed; tokens are not renewed meanwhile.

if obj.spec == nil then
  obj.spec = {}
end
obj.spec.suspend = true
return obj
